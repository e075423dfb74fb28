/* SPDX-License-Identifier: Apache-2.0 */
/* What comes over a control socket, and definitions of virtual machines: the bytes are parsed as each. */
#include "engine/domain.h"
#include "vmm/flat-json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_request(const char *text, size_t size)
{
	static struct bh_flat_object object;
	struct bh_error err = BH_ERROR_INIT;

	if (bh_flat_parse(text, size, &object, &err) < 0)
		return;
	bh_flat_text(&object, "command", NULL);
	bh_flat_number(&object, "downtime_ms", 0);
	bh_flat_bool(&object, "track");
	bh_flat_unknown(&object);
}

static void parse_definition(const char *text, size_t size)
{
	struct bh_domain_definition definition = { 0 };
	bh_auto_strv struct bh_strv warnings = { 0 };
	struct bh_error err = BH_ERROR_INIT;

	if (bh_domain_definition_parse(text, size, &definition, &err) < 0)
		return;
	free(bh_domain_definition_text(&definition));
	bh_domain_definition_warn(&definition, &warnings);
	bh_domain_definition_clear(&definition);
}

static void parse_xml(const char *text, size_t size)
{
	struct bh_domain_definition definition = { 0 };
	bh_auto_strv struct bh_strv warnings = { 0 };
	bh_auto_free char *name = NULL;
	struct bh_error err = BH_ERROR_INIT;

	if (bh_domain_import_xml(text, size, &name, &definition, &warnings, &err) == 0)
		bh_domain_definition_clear(&definition);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bh_auto_free char *text = bh_strndup((const char *)data, size);

	if (size > 65536)
		return 0;
	parse_request((const char *)data, size);
	parse_definition(text, strlen(text));
	parse_xml((const char *)data, size);
	return 0;
}
