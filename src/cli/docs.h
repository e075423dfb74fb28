/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of manual pages and completions that both command lines (bulkhead, bulkhead-oci) are written with; to stdout. */
#pragma once

#include "base/option.h"

/* Calls `visit` for every option of the command that isn't hidden. */
void bh_docs_each_option(const struct bh_command *command, void (*visit)(const struct bh_option *));
/* Text with what roff takes for requests and escapes made harmless. */
void bh_docs_roff(const char *text);
/* One option as a tagged paragraph. */
void bh_docs_roff_option(const struct bh_option *option);
/* The option's names as words of a completion; and the branch of a `case "$prev"` with the values it allows. */
void bh_docs_bash_option(const struct bh_option *option);
void bh_docs_bash_choices(const struct bh_option *option);
