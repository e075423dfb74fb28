/* SPDX-License-Identifier: Apache-2.0 */
/* Names for containers that were given none, and names of signals. */
#pragma once

/* "adjective_noun"; from the third attempt on with a digit behind it. Owned by the caller. */
char *bh_random_name(unsigned attempt);
/* "TERM", "SIGTERM", "15", "RTMIN+3" -> number. -EINVAL. */
int bh_parse_signal(const char *text, int *ret_signal);
