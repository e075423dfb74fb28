/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions from libvirt (https://libvirt.org/formatdomain.html): the common subset, read with expat as elements open and close. What we have nothing
 * for is told once by name and left out. There are no entities: a document that declares some is refused.
 */
#include "engine/domain.h"

#include "base/memory.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH_MAX 16
#define TEXT_MAX 4096

struct import {
	XML_Parser parser;
	const char *path[DEPTH_MAX]; /* names of the open elements; static or of the table below */
	int depth;
	struct bh_buf text;
	char *name;
	struct bh_domain_definition *d;
	struct bh_strv *warnings;
	char *unit;
	bool in_disk, in_net, skip, is_cdrom;
	struct bh_domain_disk disk;
	struct bh_domain_net net;
	char names[DEPTH_MAX][64];
	bool broken;
};

static const char *attribute(const char **attributes, const char *name)
{
	for (size_t i = 0; attributes[i]; i += 2)
		if (bh_streq(attributes[i], name))
			return attributes[i + 1];
	return NULL;
}

static bool is_at(const struct import *x, const char *parent, const char *name)
{
	return x->depth >= 2 && bh_streq(x->path[x->depth - 1], name) && bh_streq(x->path[x->depth - 2], parent);
}

static void set(char **place, const char *text)
{
	if (!text)
		return;
	free(*place);
	*place = bh_strdup(text);
}

static void warn_once(struct import *x, const char *what)
{
	bh_auto_free char *line = bh_printf("%s is left out", what);

	if (!bh_strv_contains(x->warnings, line))
		bh_strv_add(x->warnings, line);
}

static void begin_disk(struct import *x, const char **attributes)
{
	const char *device = attribute(attributes, "device");

	x->in_disk = true;
	x->disk = (struct bh_domain_disk){ .format = bh_strdup("raw") };
	x->is_cdrom = bh_streq(device, "cdrom");
	x->disk.readonly = x->is_cdrom;
	x->skip = device && !bh_streq(device, "disk") && !x->is_cdrom && !bh_streq(device, "lun");
}

static void begin_in_disk(struct import *x, const char *name, const char **attributes)
{
	if (bh_streq(name, "source")) {
		set(&x->disk.path, attribute(attributes, "file"));
		set(&x->disk.path, attribute(attributes, "dev"));
	} else if (bh_streq(name, "driver")) {
		set(&x->disk.format, attribute(attributes, "type"));
	} else if (bh_streq(name, "readonly")) {
		x->disk.readonly = true;
	}
}

static void begin_in_net(struct import *x, const char *name, const char **attributes)
{
	if (bh_streq(name, "source"))
		set(&x->net.bridge, attribute(attributes, "bridge"));
	else if (bh_streq(name, "mac"))
		set(&x->net.mac, attribute(attributes, "address"));
}

static void begin_device(struct import *x, const char *name, const char **attributes)
{
	static const char *const ignored[] = { "emulator", "serial", "console", "controller", "rng", "memballoon", "input", NULL };

	if (bh_streq(name, "disk")) {
		begin_disk(x, attributes);
		return;
	}
	if (bh_streq(name, "interface")) {
		x->in_net = true;
		x->net = (struct bh_domain_net){ 0 };
		x->skip = !bh_streq(attribute(attributes, "type"), "bridge");
		return;
	}
	for (size_t i = 0; ignored[i]; i++)
		if (bh_streq(ignored[i], name))
			return;
	warn_once(x, name);
}

static void XMLCALL on_begin(void *context, const char *name, const char **attributes)
{
	struct import *x = context;

	if (x->depth == DEPTH_MAX) {
		x->broken = true;
		XML_StopParser(x->parser, XML_FALSE);
		return;
	}
	snprintf(x->names[x->depth], sizeof x->names[0], "%s", name);
	x->path[x->depth] = x->names[x->depth];
	x->depth++;
	bh_buf_reset(&x->text);
	if (bh_streq(name, "memory") || bh_streq(name, "currentMemory"))
		set(&x->unit, attribute(attributes, "unit") ? attribute(attributes, "unit") : "KiB");
	/* A device inside of another one is a part of it that nobody knows. */
	if (x->in_disk)
		begin_in_disk(x, name, attributes);
	else if (x->in_net)
		begin_in_net(x, name, attributes);
	else if (is_at(x, "devices", name))
		begin_device(x, name, attributes);
}

/* libvirt's units: KiB is the default, KB is decimal. */
static int64_t scaled(const char *text, const char *unit)
{
	static const struct {
		const char *unit;
		int64_t bytes;
	} units[] = {
		{ "b", 1 },         { "bytes", 1 },     { "KB", 1000 },       { "k", 1024 },        { "KiB", 1024 },
		{ "MB", 1000000 },  { "M", 1 << 20 },   { "MiB", 1 << 20 },   { "GB", 1000000000 }, { "G", 1 << 30 },
		{ "GiB", 1 << 30 }, { "T", 1LL << 40 }, { "TiB", 1LL << 40 },
	};
	int64_t number;

	if (bh_parse_int(text, 0, INT32_MAX, &number) < 0)
		return 0;
	for (size_t i = 0; i < BH_ARRAY_SIZE(units); i++)
		if (bh_streq(units[i].unit, unit))
			return number * units[i].bytes;
	return 0;
}

static void end_disk(struct import *x)
{
	x->in_disk = false;
	if (x->skip || !x->disk.path || x->d->disk_count == BH_DOMAIN_DISKS_MAX) {
		if (x->skip || !x->is_cdrom)
			warn_once(x, x->skip ? "a disk that is none" : "a disk without an image");
		free(x->disk.path);
		free(x->disk.format);
		free(x->disk.serial);
		return;
	}
	x->d->disks[x->d->disk_count++] = x->disk;
}

static void end_net(struct import *x)
{
	x->in_net = false;
	if (x->skip || x->d->net_count == BH_DOMAIN_NETS_MAX) {
		warn_once(x, "a network card that is on no bridge");
		free(x->net.bridge);
		free(x->net.mac);
		return;
	}
	if (!x->net.mac)
		x->net.mac = bh_domain_random_mac();
	x->d->nets[x->d->net_count++] = x->net;
}

static void end_of_domain(struct import *x, const char *name, const char *text)
{
	int64_t number;

	if (bh_streq(name, "name"))
		set(&x->name, text);
	else if (bh_streq(name, "uuid"))
		set(&x->d->uuid, text);
	else if (bh_streq(name, "memory"))
		x->d->memory_bytes = scaled(text, x->unit) / 4096 * 4096;
	else if (bh_streq(name, "vcpu") && bh_parse_int(text, 1, 64, &number) == 0)
		x->d->cpus = number;
}

static void XMLCALL on_end(void *context, const char *name)
{
	struct import *x = context;
	const char *text = x->text.data ? x->text.data : "";

	if (x->depth == 2)
		end_of_domain(x, name, text);
	else if (is_at(x, "os", "kernel"))
		set(&x->d->kernel, text);
	else if (is_at(x, "os", "initrd"))
		set(&x->d->initrd, text);
	else if (is_at(x, "os", "cmdline"))
		set(&x->d->append, text);
	else if (is_at(x, "os", "loader"))
		warn_once(x, "firmware");
	else if (x->in_disk && is_at(x, "disk", "serial"))
		set(&x->disk.serial, text);
	if (x->in_disk && is_at(x, "devices", "disk"))
		end_disk(x);
	else if (x->in_net && is_at(x, "devices", "interface"))
		end_net(x);
	bh_buf_reset(&x->text);
	x->depth--;
}

static void XMLCALL on_text(void *context, const char *text, int length)
{
	struct import *x = context;

	if (x->text.length + (size_t)length <= TEXT_MAX)
		bh_buf_add(&x->text, text, (size_t)length);
}

static void XMLCALL on_doctype(void *context, const char *name, const char *system, const char *public, int internal)
{
	struct import *x = context;

	(void)name, (void)system, (void)public, (void)internal;
	x->broken = true;
	XML_StopParser(x->parser, XML_FALSE);
}

int bh_domain_import_xml(const char *text, size_t length, char **ret_name, struct bh_domain_definition *ret_definition, struct bh_strv *ret_warnings,
			 struct bh_error *err)
{
	struct bh_domain_definition d = { .cpus = 1 };
	struct import x = { .parser = XML_ParserCreate("UTF-8"), .d = &d, .warnings = ret_warnings };
	int r = 0;

	if (!x.parser)
		return bh_error_text(err, ENOMEM, "make an XML parser");
	XML_SetUserData(x.parser, &x);
	XML_SetElementHandler(x.parser, on_begin, on_end);
	XML_SetCharacterDataHandler(x.parser, on_text);
	XML_SetStartDoctypeDeclHandler(x.parser, on_doctype);
	if (XML_Parse(x.parser, text ? text : "", (int)length, 1) == XML_STATUS_ERROR)
		r = bh_error_text(err, EINVAL, "line %lu: %s", (unsigned long)XML_GetCurrentLineNumber(x.parser),
				  x.broken ? "a document type or too many levels" : XML_ErrorString(XML_GetErrorCode(x.parser)));
	if (r == 0 && !x.name)
		r = bh_error_text(err, EINVAL, "the domain has no name");
	if (r == 0)
		r = bh_domain_definition_check(&d, err);
	/* A document that breaks off inside of one. */
	if (r < 0 && x.in_disk) {
		free(x.disk.path);
		free(x.disk.format);
		free(x.disk.serial);
	}
	if (r < 0 && x.in_net) {
		free(x.net.bridge);
		free(x.net.mac);
	}
	XML_ParserFree(x.parser);
	bh_buf_clear(&x.text);
	free(x.unit);
	if (r < 0) {
		free(x.name);
		bh_domain_definition_clear(&d);
		return r;
	}
	*ret_name = x.name;
	*ret_definition = d;
	return 0;
}
