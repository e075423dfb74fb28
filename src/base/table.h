/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned columns for a terminal, as docker prints them (three spaces between columns, the last one not padded). */
#pragma once

#include "base/string.h"

struct bh_table {
	size_t columns;
	struct bh_strv cells; /* row by row; the first row is the heading */
};

void bh_table_init(struct bh_table *table, const char *const *headings); /* NULL-terminated */
void bh_table_add(struct bh_table *table, const char *cell);             /* copies; fills rows in order */
void bh_table_addf(struct bh_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bh_table_render(const struct bh_table *table, bool with_heading, struct bh_buf *out);
void bh_table_clear(struct bh_table *table);
