/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a running monitor, at its control socket (vmm/control.h, docs/vmm.md). */
#pragma once

#include "base/error.h"
#include "oci/json.h"

/* Sends {"command": command, ...members} with the files, waits for the answer. `members`: an object, borrowed, or NULL. *ret_answer (may be
 * NULL): the answer, a new reference. The monitor's own words are the error if it refuses. */
int bh_vm_request(const char *socket, const char *command, json_object *members, const int *files, size_t file_count, json_object **ret_answer,
		  struct bh_error *err);
