/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /etc/hostname, /etc/hosts and /etc/resolv.conf of a container: written anew by each start into its run-time folder
 * (on tmpfs: making them on disk cost more than all of the container's namespaces) and bind-mounted from there.
 */
#include "engine/engine-internal.h"

#include <errno.h>
#include <fcntl.h>

#define RESOLV_CONF_MAX (1u << 16)

static void hostname_text(struct bh_container *c, struct bh_buf *text)
{
	bh_buf_addf(text, "%s\n", bh_json_text(c->record, "config.Hostname", ""));
}

static void hosts_text(struct bh_container *c, struct bh_buf *text)
{
	bh_auto_strv struct bh_strv hosts = { 0 };

	bh_buf_adds(text, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
			  "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
	bh_json_strv(c->record, "host_config.ExtraHosts", &hosts);
	for (size_t i = 0; i < hosts.count; i++) {
		size_t length = strcspn(hosts.items[i], ":=");

		bh_buf_addf(text, "%s\t%.*s\n", hosts.items[i] + length + 1, (int)length, hosts.items[i]);
	}
}

static void add_list(struct bh_container *c, const char *path, const char *keyword, bool one_line, struct bh_buf *text)
{
	bh_auto_strv struct bh_strv list = { 0 };

	bh_json_strv(c->record, path, &list);
	for (size_t i = 0; i < list.count; i++)
		bh_buf_addf(text, "%s%s%s", one_line && i ? " " : keyword, list.items[i], one_line && i + 1 < list.count ? "" : "\n");
}

static void resolv_conf_text(struct bh_container *c, struct bh_buf *text)
{
	add_list(c, "host_config.Dns", "nameserver ", false, text);
	add_list(c, "host_config.DnsSearch", "search ", true, text);
	add_list(c, "host_config.DnsOptions", "options ", true, text);
	if (text->length == 0)
		bh_read_stored_file_at(AT_FDCWD, "/etc/resolv.conf", RESOLV_CONF_MAX, text, NULL); /* a host without one: an empty file */
}

const struct bh_etc_file bh_etc_files[BH_ETC_FILE_COUNT] = {
	{ "hostname", "/etc/hostname", hostname_text },
	{ "hosts", "/etc/hosts", hosts_text },
	{ "resolv.conf", "/etc/resolv.conf", resolv_conf_text },
};

int bh_engine_write_etc_files(struct bh_container *c, struct bh_error *err)
{
	for (size_t i = 0; i < BH_ETC_FILE_COUNT; i++) {
		bh_auto_close int fd = openat(c->state_fd, bh_etc_files[i].name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
		bh_auto_buf struct bh_buf text = { 0 };
		int r;

		if (fd < 0)
			return bh_error_set(err, errno, "create %s", bh_etc_files[i].name);
		bh_etc_files[i].text(c, &text);
		r = text.length ? bh_write_all(fd, text.data, text.length) : 0;
		if (r < 0)
			return bh_error_set(err, -r, "write %s", bh_etc_files[i].name);
	}
	return 0;
}
