#include "container/container.h"
#include <errno.h>
int bh_container_exec(const struct bh_container_exec *request, struct bh_container_process *ret_process, struct bh_error *err)
{
	(void)request, (void)ret_process;
	return bh_error_text(err, ENOSYS, "no exec yet");
}
