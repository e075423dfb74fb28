/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --format: Go's text/template over JSON, as far as the formats of Docker's users go.
 *
 *	{{.A.B}} {{json .X}} {{index .X "k" 0}} {{len .X}} {{join .X ","}} {{split .X ","}} {{upper .X}} {{lower .X}}
 *	{{title .X}} {{println .X}} {{print .X}} {{printf "%s %d" .X .Y}} {{slice .X 0 12}} {{truncate .X 12}}
 *	{{eq .A .B}} ne lt le gt ge and or not
 *	{{if P}} {{else if P}} {{else}} {{end}} {{range $k, $v := P}} {{with $x := P}} {{$x := P}} {{P | f}} {{- -}} {{/ * * /}}
 */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <json-c/json_types.h>

/* Appends the result to `out`. Errors as Docker says them: "template parsing error: ...". */
int bh_template_render(const char *format, struct json_object *value, struct bh_buf *out, struct bh_error *err);

/* A list for the terminal: what `--format` may do for ps, images, stats ... */
struct bh_template_list {
	const char *format;                /* the user's: NULL or "table", "json", "raw template", "table TEMPLATE" */
	const char *table;                 /* the default columns: "{{.ID}}\t{{.Names}}" */
	const char *const (*headings)[2];  /* field -> heading: { "ID", "CONTAINER ID" } ... ends with { NULL } */
	bool no_heading;
};
/* Renders an array of objects: columns with headings, one JSON object per line, or one line per row by the template. */
int bh_template_render_list(const struct bh_template_list *list, struct json_object *rows, struct bh_buf *out, struct bh_error *err);
