/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that only the shim calls (see shim.h). Hidden, but harmless: they change nothing that is not so already. */
#include "cli/cli.h"
#include "engine/domain.h"
#include "engine/engine.h"

#include <errno.h>
#include <stdio.h>

struct shim_start_options {
	int64_t listen, restart_count, backoff_ms;
	const char *clients;
	bool owner;
};

static void shim_start_preset(void *options)
{
	struct shim_start_options *o = options;

	o->listen = -1;
}

static int shim_start_main(void *options, int argc, char **argv)
{
	const struct shim_start_options *o = options;
	struct bh_restart_handover handover = {
		.listen_fd = (int)o->listen,
		.clients = o->clients,
		.owner = o->owner,
		.restart_count = o->restart_count,
		.backoff_ms = o->backoff_ms,
	};
	struct bh_error err = BH_ERROR_INIT;
	struct bh_engine engine;

	(void)argc;
	if (bh_has_prefix(argv[0], BH_DOMAIN_SHIM_PREFIX))
		bh_domain_restart(bh_cli.root, bh_cli.state, argv[0] + strlen(BH_DOMAIN_SHIM_PREFIX), &handover);
	if (bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	bh_engine_restart(&engine, argv[0], &handover);
}

static const struct bh_option shim_start_table[] = {
	{ 0, "listen", BH_OPTION_INT, offsetof(struct shim_start_options, listen), "FD", "Attach socket", NULL, false },
	{ 0, "clients", BH_OPTION_STRING, offsetof(struct shim_start_options, clients), "FDS", "Connected clients", NULL, false },
	{ 0, "owner", BH_OPTION_BOOL, offsetof(struct shim_start_options, owner), NULL, "The first client cleans up", NULL, false },
	{ 0, "restart-count", BH_OPTION_INT, offsetof(struct shim_start_options, restart_count), "N", "Restarts so far", NULL, false },
	{ 0, "backoff-ms", BH_OPTION_INT, offsetof(struct shim_start_options, backoff_ms), "MS", "Last back-off", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_shim_start = {
	.name = "shim-start",
	.group = "Internal",
	.synopsis = "CONTAINER",
	.summary = "Start a container again in the shim's place",
	.hidden = true,
	.sets = { shim_start_table },
	.options_size = sizeof(struct shim_start_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.preset = shim_start_preset,
	.run = shim_start_main,
};

static int with_container(const char *id, bool locked, int (*action)(struct bh_engine *, struct bh_container *, struct bh_error *))
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_container container;
	struct bh_engine engine;
	int r;

	if (bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = bh_engine_find(&engine, id, &container, &err);
	if (r < 0)
		return 0; /* removed meanwhile: nothing is left to do */
	if (locked) {
		r = bh_lock_fd(container.dir_fd, true, false);
		container.locked = r == 0;
		bh_container_refresh(&engine, &container);
	}
	if (r == 0 && faccessat(container.dir_fd, "container.json", F_OK, 0) == 0)
		r = action(&engine, &container, &err);
	bh_container_clear(&container);
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

static int finish_domain(const char *name)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain domain;
	int r = bh_domain_open(bh_cli.root, bh_cli.state, name, true, &domain, &err);

	if (r < 0)
		return 0; /* removed meanwhile */
	r = bh_domain_finish(&domain, &err);
	bh_domain_clear(&domain);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

static int shim_finish_main(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	if (bh_has_prefix(argv[0], BH_DOMAIN_SHIM_PREFIX))
		return finish_domain(argv[0] + strlen(BH_DOMAIN_SHIM_PREFIX));
	return with_container(argv[0], true, bh_engine_finish);
}

const struct bh_command bh_command_shim_finish = {
	.name = "shim-finish",
	.group = "Internal",
	.synopsis = "CONTAINER",
	.summary = "Clean up after a container's last exit",
	.hidden = true,
	.min_arguments = 1,
	.max_arguments = 1,
	.run = shim_finish_main,
};

static int health_probe_main(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	return with_container(argv[0], false, bh_engine_health_probe);
}

const struct bh_command bh_command_health_probe = {
	.name = "health-probe",
	.group = "Internal",
	.synopsis = "CONTAINER",
	.summary = "Run a container's health check once",
	.hidden = true,
	.min_arguments = 1,
	.max_arguments = 1,
	.run = health_probe_main,
};
