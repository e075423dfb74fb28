#pragma once
#include "base/string.h"
#include <json-c/json.h>
int bh_template_render(const char *format, json_object *value, struct bh_buf *out, struct bh_error *err);
int bh_template_print_rows(const char *format, json_object *rows, struct bh_error *err);
json_object *bh_cli_inspect_image(const char *name, struct bh_error *err);
