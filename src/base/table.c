/* SPDX-License-Identifier: Apache-2.0 */
#include "base/table.h"

/* Columns seen on a terminal, not bytes: continuation bytes of UTF-8 take no room. */
static size_t display_width(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

void bh_table_init(struct bh_table *table, const char *const *headings)
{
	*table = (struct bh_table){ 0 };
	for (; headings[table->columns]; table->columns++)
		bh_strv_add(&table->cells, headings[table->columns]);
}

void bh_table_add(struct bh_table *table, const char *cell)
{
	bh_strv_add(&table->cells, cell ? cell : "");
}

void bh_table_addf(struct bh_table *table, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	bh_strv_take(&table->cells, bh_vprintf(format, args));
	va_end(args);
}

void bh_table_render(const struct bh_table *table, bool with_heading, struct bh_buf *out)
{
	size_t widths[32] = { 0 }, columns = BH_MIN(table->columns, BH_ARRAY_SIZE(widths));

	if (!columns)
		return;
	for (size_t i = with_heading ? 0 : columns; i < table->cells.count; i++)
		widths[i % columns] = BH_MAX(widths[i % columns], display_width(table->cells.items[i]));
	for (size_t i = with_heading ? 0 : columns; i < table->cells.count; i++) {
		const char *cell = table->cells.items[i];
		bool last = i % columns == columns - 1;

		bh_buf_adds(out, cell);
		if (last)
			bh_buf_addc(out, '\n');
		else
			bh_buf_addf(out, "%*s", (int)(widths[i % columns] - display_width(cell) + 3), "");
	}
}

void bh_table_clear(struct bh_table *table)
{
	bh_strv_clear(&table->cells);
}
