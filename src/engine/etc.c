/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /etc/hostname, /etc/hosts and /etc/resolv.conf of a container: composed anew by each start and handed to the driver,
 * which keeps them on a tmpfs of the container. As files on disk they cost more than all of its namespaces together.
 * A mount of the user's own at their place wins.
 */
#include "engine/engine-internal.h"

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

static const struct {
	const char *target;
	void (*text)(struct bh_container *c, struct bh_buf *text);
} etc_files[] = {
	{ "/etc/hostname", hostname_text },
	{ "/etc/hosts", hosts_text },
	{ "/etc/resolv.conf", resolv_conf_text },
};

size_t bh_engine_etc_files(struct bh_container *c, struct bh_spec *spec, struct bh_container_file ret_files[BH_ETC_FILES_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < BH_ARRAY_SIZE(etc_files); i++) {
		struct bh_buf text = { 0 };

		if (bh_spec_find_mount(spec, etc_files[i].target))
			continue;
		etc_files[i].text(c, &text);
		ret_files[count].target = etc_files[i].target;
		ret_files[count].length = text.length;
		ret_files[count++].content = bh_buf_take(&text);
	}
	return count;
}
