/* SPDX-License-Identifier: Apache-2.0 */
/* What the exec stub says when the workload could not be executed. */
#pragma once

#define BH_EXEC_FAILURE 0x45584543 /* "EXEC" */

struct bh_exec_failure {
	unsigned kind;
	int errnum;
};
