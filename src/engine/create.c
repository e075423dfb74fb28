/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `create`: from an image and options to a container on disk.
 *
 * The record keeps, in Docker's shape, what `inspect` shows (`config`, `host_config`, `mounts`), and beside it what a
 * later start needs. config.json is the OCI spec without what only a start can know: the resolved user, the paths of
 * joined namespaces, the cgroup.
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "base/time.h"
#include "engine/names.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/random.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define HOSTNAME_MAX 64

/* What create works on; freed as a whole. */
struct creation {
	const struct bh_create_options *options;
	struct bh_image_store store; /* open, and thereby locked against rmi, until the record says that we use the image */
	struct bh_image image;
	struct bh_spec spec;
	struct bh_mount_list mounts;
	json_object *record;
	char id[BH_ID_LENGTH + 1];
	char *hostname;
	struct bh_container container;
};

static void creation_clear(struct creation *c)
{
	bh_image_store_close(&c->store);
	bh_image_clear(&c->image);
	bh_spec_clear(&c->spec);
	bh_mount_list_clear(&c->mounts);
	json_object_put(c->record);
	free(c->hostname);
}

static int random_id(char ret_id[BH_ID_LENGTH + 1], struct bh_error *err)
{
	unsigned char bytes[BH_ID_LENGTH / 2];

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return bh_error_set(err, errno, "getrandom");
	bh_format_hex(bytes, sizeof bytes, ret_id);
	return 0;
}

static bool is_container_name(const char *name)
{
	if (!isalnum((unsigned char)*name) || !name[1] || strlen(name) > 250)
		return false;
	return !name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")];
}

int bh_engine_claim_name(struct bh_engine *engine, const char *name, const char *id, struct bh_error *err)
{
	char owner[BH_ID_LENGTH + 1] = "", text[BH_NAME_TEXT_LENGTH + 1];

	if (!is_container_name(name))
		return bh_error_text(err, EINVAL, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
	bh_engine_name_text(id, text);
	for (int attempt = 0; attempt < 2; attempt++) {
		if (symlinkat(text, engine->names_fd, name) == 0)
			return 0;
		if (errno != EEXIST)
			return bh_error_set(err, errno, "claim the name %s", name);
		if (bh_engine_read_name(engine, name, owner) < 0)
			continue;
		/* The owner may be what a killed command left. */
		bh_engine_sweep_half_made(engine, owner);
		if (faccessat(engine->containers_fd, owner, F_OK, 0) < 0)
			unlinkat(engine->names_fd, name, 0);
	}
	return bh_error_text(err, EEXIST,
			     "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove (or rename) that "
			     "container to be able to reuse that name.",
			     name, owner);
}

static int choose_name(struct bh_engine *engine, const struct creation *c, char **ret_name, struct bh_error *err)
{
	int r;

	if (c->options->name) {
		r = bh_engine_claim_name(engine, c->options->name, c->id, err);
		if (r == 0)
			*ret_name = bh_strdup(c->options->name);
		return r;
	}
	for (unsigned attempt = 0;; attempt++) {
		bh_auto_free char *name = bh_random_name(attempt);

		r = bh_engine_claim_name(engine, name, c->id, err);
		if (r == -EEXIST && attempt < 20)
			continue;
		if (r == 0)
			*ret_name = BH_TAKE_PTR(name);
		return r;
	}
}

/* Docker's rule: --entrypoint drops the image's command; otherwise arguments replace the image's command. */
static int set_arguments(struct creation *c, struct bh_error *err)
{
	const struct bh_create_options *o = c->options;
	struct bh_strv *args = &c->spec.process.args;

	bh_strv_clear(args);
	if (o->entrypoint) {
		if (*o->entrypoint)
			bh_strv_add(args, o->entrypoint);
		bh_strv_extend(args, o->command);
	} else {
		bh_strv_extend(args, c->image.entrypoint.items);
		bh_strv_extend(args, *o->command ? o->command : c->image.cmd.items);
	}
	if (args->count == 0)
		return bh_error_text(err, EINVAL, "no command specified");
	if (!*args->items[0])
		return bh_error_text(err, EINVAL, "exec: \"\": executable file not found in $PATH");
	return 0;
}

static int set_environment(struct creation *c, struct bh_error *err)
{
	const struct bh_create_options *o = c->options;
	struct bh_strv *env = &c->spec.process.env;

	bh_strv_clear(env);
	bh_strv_add(env, DEFAULT_PATH);
	if (c->hostname)
		bh_strv_addf(env, "HOSTNAME=%s", c->hostname);
	if (o->tty)
		bh_strv_add(env, "TERM=xterm");
	for (size_t i = 0; i < c->image.env.count; i++)
		bh_env_set(env, c->image.env.items[i]);
	return bh_engine_add_env(env, &o->env_file, &o->env, err);
}

static int set_hostname(struct creation *c, struct bh_error *err)
{
	const struct bh_create_options *o = c->options;
	char host[HOSTNAME_MAX + 1] = "";

	if (o->hostname && strlen(o->hostname) > HOSTNAME_MAX)
		return bh_error_text(err, EINVAL, "invalid hostname: %s", o->hostname);
	if (!c->spec.namespaces[BH_NS_UTS].present) {
		if (o->hostname || o->domainname)
			return bh_error_text(err, EINVAL, "conflicting options: hostname and the UTS mode");
		gethostname(host, sizeof host - 1);
		c->hostname = bh_strdup(host);
		return 0;
	}
	if (!o->hostname && bh_streq(o->network, "host"))
		gethostname(host, sizeof host - 1);
	c->hostname = o->hostname ? bh_strdup(o->hostname) : *host ? bh_strdup(host) : bh_printf("%.12s", c->id);
	c->spec.hostname = bh_strdup(c->hostname);
	c->spec.domainname = bh_strdup(o->domainname);
	return 0;
}

static int build_spec(struct bh_engine *engine, struct creation *c, struct bh_error *err)
{
	const struct bh_create_options *o = c->options;
	struct bh_spec *spec = &c->spec;
	const char *cwd = o->workdir ? o->workdir : c->image.working_dir;
	int r;

	bh_spec_default(spec);
	if (o->privileged)
		bh_spec_privileged(spec);
	r = bh_engine_apply_options(engine, o, spec, err);
	if (r == 0)
		r = bh_engine_apply_userns(engine, o, c->id, spec, err);
	if (r == 0)
		r = set_hostname(c, err);
	if (r == 0)
		r = set_arguments(c, err);
	if (r == 0)
		r = set_environment(c, err);
	if (r < 0)
		return r;
	if (cwd && *cwd && *cwd != '/')
		return bh_error_text(err, EINVAL, "the working directory '%s' is invalid, it needs to be an absolute path", cwd);
	free(spec->process.cwd);
	spec->process.cwd = bh_path_clean(cwd && *cwd ? cwd : "/");
	spec->process.terminal = o->tty;
	spec->root.readonly = o->read_only;
	free(spec->root.path);
	spec->root.path = bh_strdup("rootfs");
	for (size_t i = 0; i < o->annotation.count; i++)
		bh_strv_add(&spec->annotations, o->annotation.items[i]);
	return 0;
}

static void add_text(json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value ? value : ""));
}

static void add_int(json_object *object, const char *key, int64_t value)
{
	json_object_object_add(object, key, json_object_new_int64(value == BH_UNSET ? 0 : value));
}

static void add_bool(json_object *object, const char *key, bool value)
{
	json_object_object_add(object, key, json_object_new_boolean(value));
}

/* "key=value" lists as an object. */
static json_object *as_map(const struct bh_strv *list)
{
	json_object *map = json_object_new_object();

	for (size_t i = 0; i < list->count; i++) {
		const char *item = list->items[i], *equals = strchr(item, '=');
		bh_auto_free char *key = bh_strndup(item, equals ? (size_t)(equals - item) : strlen(item));

		json_object_object_add(map, key, json_object_new_string(equals ? equals + 1 : ""));
	}
	return map;
}

static int collect_labels(struct creation *c, json_object **ret_labels, struct bh_error *err)
{
	bh_auto_strv struct bh_strv labels = { 0 };

	bh_strv_extend(&labels, c->image.labels.items);
	for (size_t i = 0; i < c->options->label_file.count; i++) {
		bh_auto_buf struct bh_buf content = { 0 };
		bh_auto_strv struct bh_strv lines = { 0 };
		int r = bh_read_file_at(AT_FDCWD, c->options->label_file.items[i], 1u << 20, &content, err);

		if (r < 0)
			return r;
		lines = bh_strv_split(content.data, '\n');
		for (size_t l = 0; l < lines.count; l++)
			if (*lines.items[l] && *lines.items[l] != '#')
				bh_env_set(&labels, lines.items[l]);
	}
	for (size_t i = 0; i < c->options->label.count; i++)
		bh_env_set(&labels, c->options->label.items[i]);
	*ret_labels = as_map(&labels);
	return 0;
}

static json_object *health_object(const struct creation *c)
{
	const struct bh_create_options *o = c->options;
	const struct bh_image *image = &c->image;
	bh_auto_strv struct bh_strv test = { 0 };
	json_object *health = json_object_new_object();

	if (o->health_cmd) {
		bh_strv_add(&test, "CMD-SHELL");
		bh_strv_add(&test, o->health_cmd);
	} else {
		bh_strv_extend(&test, image->healthcheck.test.items);
	}
	json_object_object_add(health, "Test", bh_json_from_strv(&test));
	add_int(health, "Interval", o->health_interval_ns ? o->health_interval_ns : image->healthcheck.interval_ns);
	add_int(health, "Timeout", o->health_timeout_ns ? o->health_timeout_ns : image->healthcheck.timeout_ns);
	add_int(health, "StartPeriod", o->health_start_period_ns ? o->health_start_period_ns : image->healthcheck.start_period_ns);
	add_int(health, "Retries", o->health_retries ? o->health_retries : image->healthcheck.retries);
	return health;
}

static bool has_healthcheck(const struct creation *c)
{
	const struct bh_strv *test = &c->image.healthcheck.test;

	if (c->options->no_healthcheck)
		return false;
	return c->options->health_cmd || (c->image.healthcheck.set && test->count && !bh_streq(test->items[0], "NONE"));
}

static int config_object(struct creation *c, json_object **ret_config, struct bh_error *err)
{
	const struct bh_create_options *o = c->options;
	json_object *config = json_object_new_object(), *labels = NULL;
	bh_auto_strv struct bh_strv command = { 0 }, entrypoint = { 0 };
	int r = collect_labels(c, &labels, err);

	*ret_config = config;
	if (r < 0)
		return r;
	if (o->entrypoint && *o->entrypoint)
		bh_strv_add(&entrypoint, o->entrypoint);
	else if (!o->entrypoint)
		bh_strv_extend(&entrypoint, c->image.entrypoint.items);
	bh_strv_extend(&command, *o->command || o->entrypoint ? o->command : c->image.cmd.items);
	add_text(config, "Hostname", c->hostname);
	add_text(config, "Domainname", o->domainname);
	add_text(config, "User", o->user ? o->user : c->image.user);
	add_bool(config, "AttachStdin", o->interactive && !o->detach);
	add_bool(config, "AttachStdout", !o->detach);
	add_bool(config, "AttachStderr", !o->detach);
	add_bool(config, "Tty", o->tty);
	add_bool(config, "OpenStdin", o->interactive);
	add_bool(config, "StdinOnce", o->interactive && !o->detach);
	json_object_object_add(config, "Env", bh_json_from_strv(&c->spec.process.env));
	json_object_object_add(config, "Cmd", command.count ? bh_json_from_strv(&command) : NULL);
	add_text(config, "Image", o->image);
	add_text(config, "WorkingDir", o->workdir ? o->workdir : c->image.working_dir);
	json_object_object_add(config, "Entrypoint", entrypoint.count ? bh_json_from_strv(&entrypoint) : NULL);
	json_object_object_add(config, "Labels", labels);
	add_text(config, "StopSignal", o->stop_signal ? o->stop_signal : c->image.stop_signal ? c->image.stop_signal : "SIGTERM");
	add_int(config, "StopTimeout", o->stop_timeout == BH_UNSET ? BH_STOP_TIMEOUT_DEFAULT : o->stop_timeout);
	if (has_healthcheck(c))
		json_object_object_add(config, "Healthcheck", health_object(c));
	return 0;
}

/* "on-failure:3" */
static int restart_object(const struct bh_create_options *o, json_object **ret_policy, struct bh_error *err)
{
	const char *text = o->restart && *o->restart ? o->restart : "no", *colon = strchr(text, ':');
	bh_auto_free char *name = bh_strndup(text, strcspn(text, ":"));
	int64_t retries = 0;
	bool counted = bh_streq(name, "on-failure");

	if (!bh_streq(name, "no") && !counted && !bh_streq(name, "always") && !bh_streq(name, "unless-stopped"))
		return bh_error_text(err, EINVAL, "invalid restart policy '%s'", text);
	if (colon && (!counted || bh_parse_int(colon + 1, 0, INT32_MAX, &retries) < 0))
		return bh_error_text(err, EINVAL, "invalid restart policy: maximum retry count can only be used with 'on-failure', as a number: '%s'",
				     text);
	if (o->remove && !bh_streq(name, "no"))
		return bh_error_text(err, EINVAL, "Conflicting options: --restart and --rm");
	*ret_policy = json_object_new_object();
	add_text(*ret_policy, "Name", name);
	add_int(*ret_policy, "MaximumRetryCount", retries);
	return 0;
}

static int log_object(const struct bh_create_options *o, json_object **ret_log, struct bh_error *err)
{
	const char *driver = o->log_driver ? o->log_driver : "json-file";
	uint64_t bytes;
	int64_t files;

	if (!bh_streq(driver, "json-file") && !bh_streq(driver, "none"))
		return bh_error_text(err, EINVAL, "logger: no log driver named '%s' is registered", driver);
	for (size_t i = 0; i < o->log_opt.count; i++) {
		const char *item = o->log_opt.items[i];

		if (bh_has_prefix(item, "max-size=") ? bh_parse_bytes(item + 9, &bytes) < 0 || bytes == 0 :
		    bh_has_prefix(item, "max-file=") ? bh_parse_int(item + 9, 1, 1000, &files) < 0 :
						       true)
			return bh_error_text(err, EINVAL, "unknown or invalid log opt '%s' for %s log driver", item, driver);
	}
	*ret_log = json_object_new_object();
	add_text(*ret_log, "Type", driver);
	json_object_object_add(*ret_log, "Config", as_map(&o->log_opt));
	return 0;
}

/* host_config holds only what differs from the defaults (host_defaults in inspect.c): `ps` reads every record. */
static void keep_text(json_object *object, const char *key, const char *value, const char *fallback)
{
	if (value && *value && !bh_streq(value, fallback))
		add_text(object, key, value);
}

static void keep_int(json_object *object, const char *key, int64_t value, int64_t fallback)
{
	if (value != BH_UNSET && value != fallback)
		add_int(object, key, value);
}

static void keep_true(json_object *object, const char *key, bool value)
{
	if (value)
		add_bool(object, key, true);
}

static void host_config_limits(json_object *host, const struct bh_create_options *o, const struct bh_spec *spec)
{
	keep_int(host, "Memory", o->memory, 0);
	keep_int(host, "MemorySwap", spec->resources.memory.swap.set ? spec->resources.memory.swap.value : 0, 0);
	keep_int(host, "MemoryReservation", o->memory_reservation, 0);
	keep_int(host, "MemorySwappiness", o->memory_swappiness, -1);
	keep_int(host, "NanoCpus", o->cpus_nano, 0);
	keep_int(host, "CpuShares", o->cpu_shares, 0);
	keep_int(host, "CpuPeriod", o->cpu_period, 0);
	keep_int(host, "CpuQuota", o->cpu_quota, 0);
	keep_text(host, "CpusetCpus", o->cpuset_cpus, "");
	keep_text(host, "CpusetMems", o->cpuset_mems, "");
	keep_int(host, "PidsLimit", o->pids_limit, 0);
	keep_int(host, "BlkioWeight", o->blkio_weight, 0);
	keep_true(host, "OomKillDisable", o->oom_kill_disable);
	keep_int(host, "OomScoreAdj", o->oom_score_adj, 0);
	keep_int(host, "ShmSize", o->shm_size, 64 << 20);
}

static void host_config_lists(json_object *host, const struct bh_create_options *o)
{
	const struct {
		const char *key;
		const struct bh_strv *list;
	} lists[] = {
		{ "Binds", &o->volume },
		{ "CapAdd", &o->cap_add },
		{ "CapDrop", &o->cap_drop },
		{ "Dns", &o->dns },
		{ "DnsOptions", &o->dns_option },
		{ "DnsSearch", &o->dns_search },
		{ "ExtraHosts", &o->add_host },
		{ "GroupAdd", &o->group_add },
		{ "SecurityOpt", &o->security_opt },
		{ "Devices", &o->device },
		{ "Ulimits", &o->ulimit },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(lists); i++)
		if (lists[i].list->count)
			json_object_object_add(host, lists[i].key, bh_json_from_strv(lists[i].list));
	if (o->sysctl.count)
		json_object_object_add(host, "Sysctls", as_map(&o->sysctl));
}

/* A microVM's variable is read once: what starts it again has another environment. */
static const char *or_variable(const struct bh_create_options *o, const char *value, const char *variable)
{
	return value || !bh_streq(o->isolation, "vm") ? value : getenv(variable);
}

static int host_config_object(struct creation *c, json_object **ret_host, struct bh_error *err)
{
	const struct bh_create_options *o = c->options;
	json_object *host = json_object_new_object(), *policy = NULL, *log = NULL;
	int r = restart_object(o, &policy, err);

	*ret_host = host;
	if (r == 0 && !bh_streq(bh_json_text(policy, "Name", "no"), "no"))
		json_object_object_add(host, "RestartPolicy", policy);
	else
		json_object_put(policy);
	if (r == 0)
		r = log_object(o, &log, err);
	if (r < 0)
		return r;
	if (o->log_driver || o->log_opt.count)
		json_object_object_add(host, "LogConfig", log);
	else
		json_object_put(log);
	keep_true(host, "AutoRemove", o->remove);
	keep_text(host, "NetworkMode", o->network, "none");
	keep_text(host, "Isolation", o->isolation, "container");
	keep_text(host, "Accelerator", or_variable(o, o->accelerator, "BULKHEAD_ACCEL"), "");
	keep_text(host, "Kernel", or_variable(o, o->kernel, "BULKHEAD_KERNEL"), "");
	keep_text(host, "PidMode", o->pid, "");
	keep_text(host, "IpcMode", o->ipc, "private");
	keep_text(host, "UTSMode", o->uts, "");
	keep_text(host, "UsernsMode", o->userns, "");
	keep_text(host, "CgroupnsMode", o->cgroupns, "private");
	keep_true(host, "Privileged", o->privileged);
	keep_true(host, "ReadonlyRootfs", o->read_only);
	keep_true(host, "Init", o->init);
	host_config_limits(host, o, &c->spec);
	host_config_lists(host, o);
	return 0;
}

static json_object *snapshot_object(struct bh_engine *engine, const struct bh_image *image, const char *driver)
{
	json_object *snapshot = json_object_new_object(), *layers = json_object_new_array();
	size_t root_length = strlen(engine->root);

	/* Relative to the root folder, so that this one can move. */
	for (size_t i = 0; i < image->layer_paths.count; i++) {
		const char *path = image->layer_paths.items[i];

		if (strncmp(path, engine->root, root_length) == 0 && path[root_length] == '/')
			path += root_length + 1;
		json_object_array_add(layers, json_object_new_string(path));
	}
	add_text(snapshot, "driver", driver);
	json_object_object_add(snapshot, "layers", layers);
	return snapshot;
}

/*
 * `overlay` where it works, else `vfs`, which copies the layers. The answer of a trial mount is kept as an empty file in
 * the root folder, since the file system below it doesn't change; a "no" is tried again.
 */
static const char *choose_snapshot_driver(struct bh_engine *engine)
{
	struct bh_error why = BH_ERROR_INIT;

	if (faccessat(engine->root_fd, "overlay-works", F_OK, 0) == 0)
		return bh_snapshot_overlay.name;
	if (bh_snapshot_overlay.check(engine->root, &why) < 0) {
		bh_info("the image's layers are copied: %s", why.message);
		return bh_snapshot_vfs.name;
	}
	bh_write_file_at(engine->root_fd, "overlay-works", "", 0, 0600, 0, NULL);
	return bh_snapshot_overlay.name;
}

static int build_record(struct bh_engine *engine, struct creation *c, const char *name, struct bh_error *err)
{
	const struct bh_create_options *o = c->options;
	json_object *record = json_object_new_object(), *config = NULL, *host = NULL;
	bh_auto_free char *command = bh_strv_join(&c->spec.process.args, " ");
	int r = config_object(c, &config, err);

	c->record = record;
	json_object_object_add(record, "config", config);
	if (r == 0) {
		r = host_config_object(c, &host, err);
		json_object_object_add(record, "host_config", host);
	}
	if (r < 0)
		return r;
	add_text(record, "id", c->id);
	add_text(record, "name", name);
	add_text(record, "image", c->image.name ? c->image.name : o->image);
	add_text(record, "image_id", c->image.id);
	add_int(record, "created_ns", bh_now_ns());
	add_text(record, "command", command);
	add_bool(record, "auto_remove", o->remove);
	add_bool(record, "restart_fresh", o->restart_fresh);
	add_bool(record, "one_shot", o->one_shot);
	json_object_object_add(record, "snapshot", snapshot_object(engine, &c->image, choose_snapshot_driver(engine)));
	return 0;
}

static int check_hosts(const struct bh_create_options *o, struct bh_error *err)
{
	for (size_t i = 0; i < o->add_host.count; i++) {
		const char *item = o->add_host.items[i];
		size_t length = strcspn(item, ":=");

		if (!item[length] || !item[length + 1] || !length || strpbrk(item, " \t\n"))
			return bh_error_text(err, EINVAL, "bad format for add-host: \"%s\"", item);
	}
	return 0;
}

static int write_config(const struct creation *c, int dir_fd, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };

	bh_spec_write(&c->spec, &text);
	return bh_create_file_at(dir_fd, "config.json", text.data, text.length, 0600, err);
}

static int write_record(const struct creation *c, int dir_fd, struct bh_error *err)
{
	const char *text = json_object_to_json_string_ext(c->record, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	return bh_write_file_at(dir_fd, "container.json", text, strlen(text), 0600, 0, err);
}

static int make_files(struct bh_engine *engine, struct creation *c, struct bh_error *err)
{
	int dir_fd = c->container.dir_fd;
	json_object *mounts = json_object_new_array();
	struct bh_snapshot snapshot = { 0 };
	int r;

	json_object_object_add(c->record, "mounts", mounts);
	c->container.record = json_object_get(c->record);
	r = bh_engine_apply_mounts(engine, &c->mounts, &c->spec, mounts, err);
	if (r == 0)
		r = write_config(c, dir_fd, err);
	if (r == 0)
		r = bh_container_snapshot(engine, &c->container, &snapshot, err);
	if (r == 0) {
		r = snapshot.driver->prepare(&snapshot, err);
		bh_snapshot_clear(&snapshot);
	}
	if (r == 0)
		r = write_record(c, dir_fd, err);
	return r;
}

/* Makes and locks the container's folder. */
static int make_folder(struct bh_engine *engine, struct creation *c, struct bh_error *err)
{
	if (mkdirat(engine->containers_fd, c->id, 0700) < 0)
		return bh_error_set(err, errno, "mkdir %s/containers/%s", engine->root, c->id);
	c->container.dir_fd = bh_open_dir(engine->containers_fd, c->id, O_NOFOLLOW, err);
	if (c->container.dir_fd < 0 || bh_lock_fd(c->container.dir_fd, true, true) < 0) {
		unlinkat(engine->containers_fd, c->id, AT_REMOVEDIR);
		return c->container.dir_fd < 0 ? c->container.dir_fd : bh_error_text(err, EBUSY, "lock container %s", c->id);
	}
	memcpy(c->container.id, c->id, sizeof c->id);
	c->container.locked = true;
	return 0;
}

static int write_cidfile(const struct creation *c, struct bh_error *err)
{
	const char *path = c->options->cidfile;
	bh_auto_close int fd = -1;
	int r;

	if (!path)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0 && errno == EEXIST)
		return bh_error_text(err, EEXIST, "container ID file found, make sure the other container isn't running or delete %s", path);
	if (fd < 0)
		return bh_error_set(err, errno, "failed to create the container ID file %s", path);
	r = bh_write_all(fd, c->id, BH_ID_LENGTH);
	return r < 0 ? bh_error_set(err, -r, "write %s", path) : 0;
}

static int check_options(const struct bh_create_options *o, struct bh_error *err)
{
	const struct bh_isolation_driver *driver;
	int signal, r = bh_isolation_driver_find(o->isolation, &driver, err);

	if (r < 0)
		return r;
	if (bh_streq(o->pull, "always"))
		return bh_error_text(err, ENOTSUP, "--pull always: this build has no registry client; use load or import");
	if (o->platform && !bh_streq(o->platform, "linux/amd64") && !bh_streq(o->platform, "linux"))
		return bh_error_text(err, ENOTSUP, "--platform %s: only linux/amd64 runs here", o->platform);
	if (o->stop_signal && bh_parse_signal(o->stop_signal, &signal) < 0)
		return bh_error_text(err, EINVAL, "Invalid signal: %s", o->stop_signal);
	return check_hosts(o, err);
}

static int resolve_image(struct bh_engine *engine, struct creation *c, struct bh_error *err)
{
	int r = bh_image_store_open(engine->root, &c->store, err);

	return r < 0 ? r : bh_image_resolve(&c->store, c->options->image, &c->image, err);
}

int bh_engine_create(struct bh_engine *engine, const struct bh_create_options *options, struct bh_container *ret_container, struct bh_error *err)
{
	bh_auto(creation_clear) struct creation c = { .options = options, .store = BH_IMAGE_STORE_INIT, .container = { .dir_fd = -1, .state_fd = -1 } };
	bh_auto_free char *name = NULL;
	int r = check_options(options, err);

	if (r == 0)
		r = resolve_image(engine, &c, err);
	if (r == 0)
		r = random_id(c.id, err);
	if (r == 0)
		r = build_spec(engine, &c, err);
	if (r == 0)
		r = bh_engine_parse_mounts(options, &c.image, &c.mounts, err);
	if (r == 0)
		r = make_folder(engine, &c, err);
	if (r < 0)
		return r;
	r = choose_name(engine, &c, &name, err);
	if (r == 0)
		r = build_record(engine, &c, name, err);
	if (r == 0)
		r = make_files(engine, &c, err);
	if (r == 0)
		r = write_cidfile(&c, err);
	if (r < 0) {
		if (c.container.record)
			bh_engine_remove_volumes(engine, &c.container, NULL);
		c.container.name = BH_TAKE_PTR(name);
		bh_engine_remove_files(engine, &c.container, NULL);
		bh_container_clear(&c.container);
		return r;
	}
	bh_container_set_record(&c.container);
	c.container.spec = bh_memdup(&c.spec, sizeof c.spec);
	c.spec = (struct bh_spec){ 0 };
	*ret_container = c.container;
	return 0;
}
