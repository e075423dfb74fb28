/* SPDX-License-Identifier: Apache-2.0 */
/* --format templates: any text ends, within its bounds, and a failure has words. */
#include "../../src/cli/template-functions.c"
#include "../../src/cli/template.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char document[] = "{\"A\":{\"B\":\"x\"},\"L\":[\"a\",\"b\",[1,2]],\"N\":7,\"F\":1.5,\"T\":true,\"Z\":null,\"S\":\"a b\"}";
	static struct json_object *value;
	bh_auto_free char *text = bh_strndup((const char *)data, size);
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_error err = BH_ERROR_INIT;

	if (!value && bh_image_json_parse(document, sizeof document - 1, "document", &value, NULL) < 0)
		__builtin_trap();
	if (bh_template_render(text, value, &out, &err) < 0 && !bh_has_prefix(err.message, "template parsing error: "))
		__builtin_trap();
	return 0;
}
