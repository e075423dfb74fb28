/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-image: reads and writes archives for the command line (image/helper.h has the protocol). Not for people:
 * started by hand it says so.
 *
 * The locale stays "C": libarchive then keeps file names as the bytes they are.
 */
#include "image/helper/helper-internal.h"

#include "base/file.h"
#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>

static const struct {
	const char *name;
	int (*run)(struct helper *h, struct bh_error *err);
} verbs[] = {
	{ "load", helper_load },
	{ "import", helper_import },
	{ "unpack", helper_unpack },
	{ "save", helper_save },
};

#ifdef __SANITIZE_ADDRESS__
/* The leak checker reads /proc, which the sandbox doesn't have. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

/* Everything staged is on the disk before the caller names it. */
static int sync_staging(struct helper *h, struct bh_error *err)
{
	if (!bh_image_json_array(h->result, "blobs") && !bh_image_json_array(h->result, "layers"))
		return 0;
	return syncfs(h->root_fd) < 0 ? bh_error_set(err, errno, "sync the staging folder") : 0;
}

static int run(const char *verb, const char *request, struct helper *h, struct bh_error *err)
{
	int r = bh_image_json_parse(request, strlen(request), "request", &h->request, err);

	if (r == 0)
		r = helper_enter_sandbox(bh_image_json_int(h->request, "source", 0) == 1, err);
	if (r < 0)
		return r;
	h->root_fd = bh_open_dir(AT_FDCWD, "/", 0, err);
	if (h->root_fd < 0)
		return h->root_fd;
	for (size_t i = 0; i < BH_ARRAY_SIZE(verbs); i++) {
		if (!bh_streq(verbs[i].name, verb))
			continue;
		r = verbs[i].run(h, err);
		return r < 0 ? r : sync_staging(h, err);
	}
	return bh_error_text(err, EINVAL, "unknown verb '%s'", verb);
}

int main(int argc, char **argv)
{
	struct helper h = { .root_fd = -1, .result = json_object_new_object() };
	struct bh_error err = BH_ERROR_INIT;
	const char *text;
	int r;

	if (argc == 2 && bh_streq(argv[1], "inflate"))
		return helper_inflate_main();
	if (argc != 3 || fcntl(BH_HELPER_RESULT_FD, F_GETFD) < 0 || fcntl(BH_HELPER_ROOT_FD, F_GETFD) < 0) {
		dprintf(STDERR_FILENO, "bulkhead-image: a part of bulkhead, not to be started by hand; see 'bulkhead load --help'\n");
		return 125;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0);
	r = run(argv[1], argv[2], &h, &err);
	if (r < 0) {
		json_object_put(h.result);
		h.result = json_object_new_object();
		bh_image_json_add(h.result, "error", err.message[0] ? err.message : strerror(-r));
		json_object_object_add(h.result, "errno", json_object_new_int(-r));
	}
	text = bh_image_json_text(h.result);
	if (bh_write_all(BH_HELPER_RESULT_FD, text, strlen(text)) < 0)
		r = -EIO;
	json_object_put(h.result);
	json_object_put(h.request);
	return r < 0;
}
