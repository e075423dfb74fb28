/* SPDX-License-Identifier: Apache-2.0 */
/* What a container looks like from outside: Docker's inspect object, status words, health. */
#include "engine/engine-internal.h"

#include "base/time.h"

#include <fcntl.h>

static void add_text(json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value ? value : ""));
}

static void add_bool(json_object *object, const char *key, bool value)
{
	json_object_object_add(object, key, json_object_new_boolean(value));
}

static void add_time(json_object *object, const char *key, int64_t ns)
{
	char text[BH_TIME_TEXT_MAX];

	json_object_object_add(object, key, json_object_new_string(bh_format_time(ns, text)));
}

static json_object *state_object(struct bh_container *c)
{
	json_object *state = json_object_new_object();
	json_object *health = c->state_fd >= 0 ? bh_engine_read_json(c->state_fd, "health.json") : NULL;

	add_text(state, "Status", bh_status_name(c->status));
	add_bool(state, "Running", c->status == BH_STATUS_RUNNING || c->status == BH_STATUS_PAUSED || c->status == BH_STATUS_RESTARTING);
	add_bool(state, "Paused", c->status == BH_STATUS_PAUSED);
	add_bool(state, "Restarting", c->status == BH_STATUS_RESTARTING);
	add_bool(state, "OOMKilled", c->oom_killed);
	add_bool(state, "Dead", false);
	json_object_object_add(state, "Pid", json_object_new_int(c->status == BH_STATUS_RUNNING || c->status == BH_STATUS_PAUSED ? c->pid : 0));
	json_object_object_add(state, "ShimPid", json_object_new_int(c->shim_pid));
	json_object_object_add(state, "ExitCode", json_object_new_int(c->exit_code));
	add_text(state, "Error", c->error);
	add_time(state, "StartedAt", c->started_ns);
	add_time(state, "FinishedAt", c->finished_ns);
	if (health)
		json_object_object_add(state, "Health", health);
	return state;
}

static void add_path(json_object *object, const char *key, struct bh_engine *engine, struct bh_container *c, const char *file)
{
	bh_auto_free char *path = bh_printf("%s/containers/%s/%s", engine->root, c->id, file);

	add_text(object, key, path);
}

/* The file as the host can reach it, while the container runs. */
static void add_etc_path(json_object *object, const char *key, struct bh_container *c, const char *file)
{
	bh_auto_free char *path = c->pid ? bh_printf("/proc/%d/root/etc/%s", (int)c->pid, file) : NULL;

	add_text(object, key, path);
}

/* Docker's HostConfig of a container that was given no options; the record holds what differs. */
static const char host_defaults[] =
	"{\"Binds\":null,\"LogConfig\":{\"Type\":\"json-file\",\"Config\":{}},\"NetworkMode\":\"none\",\"RestartPolicy\":{\"Name\":\"no\",\"MaximumRetryCount\":0},"
	"\"AutoRemove\":false,\"CapAdd\":null,\"CapDrop\":null,\"CgroupnsMode\":\"private\",\"Dns\":null,\"DnsOptions\":null,\"DnsSearch\":null,"
	"\"ExtraHosts\":null,\"GroupAdd\":null,\"IpcMode\":\"private\",\"Cgroup\":\"\",\"OomScoreAdj\":0,\"PidMode\":\"\",\"Privileged\":false,"
	"\"ReadonlyRootfs\":false,\"SecurityOpt\":null,\"UTSMode\":\"\",\"UsernsMode\":\"\",\"ShmSize\":67108864,\"Sysctls\":{},\"Runtime\":\"bulkhead\","
	"\"Isolation\":\"container\",\"CpuShares\":0,\"Memory\":0,\"NanoCpus\":0,\"BlkioWeight\":0,\"CpuPeriod\":0,\"CpuQuota\":0,\"CpusetCpus\":\"\","
	"\"CpusetMems\":\"\",\"Devices\":null,\"MemoryReservation\":0,\"MemorySwap\":0,\"MemorySwappiness\":null,\"OomKillDisable\":false,"
	"\"PidsLimit\":null,\"Ulimits\":null,\"Init\":null,\"MaskedPaths\":[],\"ReadonlyPaths\":[]}";

static json_object *host_config_object(struct bh_container *c)
{
	json_object *host = json_tokener_parse(host_defaults), *own = bh_json_at(c->record, "host_config");
	json_object *config = bh_engine_read_json(c->dir_fd, "config.json");
	static const char *const paths[][2] = { { "MaskedPaths", "linux.maskedPaths" }, { "ReadonlyPaths", "linux.readonlyPaths" } };

	if (own) {
		json_object_object_foreach(own, key, value) json_object_object_add(host, key, json_object_get(value));
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(paths); i++) {
		json_object *list = bh_json_at(config, paths[i][1]);

		if (list)
			json_object_object_add(host, paths[i][0], json_object_get(list));
	}
	json_object_put(config);
	return host;
}

static json_object *graph_object(struct bh_engine *engine, struct bh_container *c)
{
	json_object *graph = json_object_new_object(), *data = json_object_new_object();
	struct bh_snapshot snapshot;
	bh_auto_strv struct bh_strv reversed = { 0 };
	bh_auto_free char *lower = NULL;

	if (bh_container_snapshot(engine, c, &snapshot, NULL) == 0) {
		for (size_t i = snapshot.layers.count; i-- > 0;)
			bh_strv_add(&reversed, snapshot.layers.items[i]);
		lower = bh_strv_join(&reversed, ":");
		add_text(data, "LowerDir", lower);
		add_path(data, "UpperDir", engine, c, "upper");
		add_path(data, "WorkDir", engine, c, "work");
		bh_snapshot_clear(&snapshot);
	}
	json_object_object_add(graph, "Data", data);
	add_text(graph, "Name", bh_json_text(c->record, "snapshot.driver", "overlay"));
	return graph;
}

static json_object *network_object(struct bh_container *c)
{
	json_object *settings = json_object_new_object(), *networks = json_object_new_object();
	const char *mode = bh_json_text(c->record, "host_config.NetworkMode", "none");

	add_text(settings, "IPAddress", "");
	add_text(settings, "Gateway", "");
	add_text(settings, "MacAddress", "");
	json_object_object_add(settings, "Ports", json_object_new_object());
	json_object_object_add(networks, mode, json_object_new_object());
	json_object_object_add(settings, "Networks", networks);
	return settings;
}

/* Docker lists a mount without our own notes (which volumes are anonymous, which are still to be filled). */
static json_object *mounts_array(struct bh_container *c)
{
	json_object *mounts = bh_json_at(c->record, "mounts"), *copy = NULL;

	if (!mounts || json_object_deep_copy(mounts, &copy, NULL) < 0)
		return json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(copy); i++) {
		json_object_object_del(json_object_array_get_idx(copy, i), "copy");
		json_object_object_del(json_object_array_get_idx(copy, i), "anonymous");
	}
	return copy;
}

static void add_command(json_object *object, struct bh_container *c)
{
	json_object *args = json_object_new_array();
	bh_auto_strv struct bh_strv all = { 0 };

	bh_json_strv(c->record, "config.Entrypoint", &all);
	bh_json_strv(c->record, "config.Cmd", &all);
	add_text(object, "Path", all.count ? all.items[0] : "");
	for (size_t i = 1; i < all.count; i++)
		json_object_array_add(args, json_object_new_string(all.items[i]));
	json_object_object_add(object, "Args", args);
}

static void add_sizes(json_object *object, struct bh_engine *engine, struct bh_container *c)
{
	struct bh_snapshot_usage usage = { 0 };
	struct bh_snapshot snapshot;

	if (bh_container_snapshot(engine, c, &snapshot, NULL) < 0)
		return;
	if (snapshot.driver->usage(&snapshot, &usage, NULL) == 0) {
		json_object_object_add(object, "SizeRw", json_object_new_int64((int64_t)usage.bytes));
		json_object_object_add(object, "SizeRootFs", json_object_new_int64((int64_t)usage.bytes));
	}
	bh_snapshot_clear(&snapshot);
}

json_object *bh_engine_inspect(struct bh_engine *engine, struct bh_container *c, bool with_size)
{
	json_object *o = json_object_new_object();
	bh_auto_free char *name = bh_printf("/%s", c->name);

	add_text(o, "Id", c->id);
	add_time(o, "Created", c->created_ns);
	add_command(o, c);
	json_object_object_add(o, "State", state_object(c));
	add_text(o, "Image", c->image_id);
	add_etc_path(o, "ResolvConfPath", c, "resolv.conf");
	add_etc_path(o, "HostnamePath", c, "hostname");
	add_etc_path(o, "HostsPath", c, "hosts");
	add_path(o, "LogPath", engine, c, "log");
	add_text(o, "Name", name);
	json_object_object_add(o, "RestartCount", json_object_new_int64(c->restart_count));
	add_text(o, "Driver", bh_json_text(c->record, "snapshot.driver", "overlay"));
	add_text(o, "Platform", "linux");
	add_text(o, "MountLabel", "");
	add_text(o, "ProcessLabel", "");
	add_text(o, "AppArmorProfile", "");
	json_object_object_add(o, "ExecIDs", NULL);
	json_object_object_add(o, "HostConfig", host_config_object(c));
	json_object_object_add(o, "GraphDriver", graph_object(engine, c));
	if (with_size)
		add_sizes(o, engine, c);
	json_object_object_add(o, "Mounts", mounts_array(c));
	json_object_object_add(o, "Config", json_object_get(bh_json_at(c->record, "config")));
	json_object_object_add(o, "NetworkSettings", network_object(c));
	if (bh_streq(bh_json_text(c->record, "host_config.Isolation", "container"), "vm")) /* null while it doesn't run */
		json_object_object_add(o, "MicroVM", c->state_fd < 0 ? NULL : bh_engine_read_json(c->state_fd, BH_MICROVM_RECORD));
	return o;
}

char *bh_container_status_text(struct bh_container *c)
{
	char age[BH_TIME_TEXT_MAX];

	switch (c->status) {
	case BH_STATUS_CREATED:
		return bh_strdup("Created");
	case BH_STATUS_EXITED:
		return bh_printf("Exited (%d) %s ago", c->exit_code, bh_format_age(bh_now_ns() - c->finished_ns, age));
	case BH_STATUS_RESTARTING:
		return bh_printf("Restarting (%d) %s ago", c->exit_code, bh_format_age(bh_now_ns() - c->finished_ns, age));
	default:
		bh_format_age(bh_now_ns() - c->started_ns, age);
		return bh_printf("Up %s%s%s%s%s", age, c->health ? " (" : "", c->health ? c->health : "", c->health ? ")" : "",
				 c->status == BH_STATUS_PAUSED ? " (Paused)" : "");
	}
}
