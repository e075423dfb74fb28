#include "cli/template.h"
#include <errno.h>
int bh_template_render(const char *format, json_object *value, struct bh_buf *out, struct bh_error *err)
{
	(void)format, (void)err;
	bh_buf_adds(out, json_object_to_json_string(value));
	return 0;
}
int bh_template_print_rows(const char *format, json_object *rows, struct bh_error *err)
{
	(void)format, (void)err;
	puts(json_object_to_json_string(rows));
	return 0;
}
json_object *bh_cli_inspect_image(const char *name, struct bh_error *err)
{
	bh_error_text(err, ENOENT, "No such image: %s", name);
	return NULL;
}
