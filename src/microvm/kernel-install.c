/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Debian's kernels for guests, from the package sources of this machine: fetched (apt-get download), unpacked (dpkg-deb), never
 * installed. What microVMs need of one is kept:
 *
 *	ROOT/kernels/<version>/{vmlinuz,package,modules/}
 *
 * The folder is there, whole, by a rename. apt checks signatures, as for any package.
 */
#include "microvm/kernel.h"
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "linux/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEFAULT_VERSION "6.12" /* has virtio, FUSE and virtiofs built in, so the fewest modules */
#define OUTPUT_MAX (1u << 20)  /* bytes that a tool says */
#define TOOL_PATH "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

static _Noreturn void execute_tool(const char *folder, char *const *argv, int out_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char *environment[] = { (char[]){ TOOL_PATH }, (char[]){ "LC_ALL=C" }, (char[]){ "DEBIAN_FRONTEND=noninteractive" }, NULL };

	dup2(null, 0);
	dup2(out_fd, 1);
	dup2(out_fd, 2);
	if (folder && chdir(folder) < 0)
		_exit(125);
	execvpe(argv[0], argv, environment);
	_exit(127);
}

/* Runs it to its end; what it says is kept. */
static int run_tool(const char *folder, char *const *argv, struct bh_buf *ret_output, struct bh_error *err)
{
	bh_auto_close int ours = -1, theirs = -1;
	int fds[2], status;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe");
	ours = fds[0];
	theirs = fds[1];
	pid = fork();
	if (pid < 0)
		return bh_error_set(err, errno, "fork");
	if (pid == 0)
		execute_tool(folder, argv, theirs);
	bh_close_fd(&theirs);
	bh_read_fd(ours, OUTPUT_MAX, ret_output);
	bh_close_fd(&ours);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return bh_error_set(err, errno, "wait for %s", argv[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return bh_error_text(err, ENOENT, "%s is missing: guest kernels are fetched with Debian's tools; use --kernel FILE instead", argv[0]);
	return status ? bh_error_text(err, EIO, "%s failed", argv[0]) : 0;
}

/* The last line of what a tool said is why it failed. */
static int add_reason(struct bh_buf *output, int r, struct bh_error *err)
{
	char *end = output->data ? output->data + output->length : NULL, *begin;

	if (r >= 0 || !end || r == -ENOENT)
		return r;
	while (end > output->data && (unsigned char)end[-1] <= ' ')
		*--end = '\0';
	begin = strrchr(output->data, '\n');
	return bh_error_text(err, -r, "%s: %s", err->message, begin ? begin + 1 : output->data);
}

/* --- which package ------------------------------------------------------------------------------------------------------ */

static int find_package(const char *wanted, char **ret_package, struct bh_error *err)
{
	bh_auto_free char *pattern = bh_printf("^linux-image-%s[^ ]*-cloud-amd64$", wanted), *best = NULL;
	char *const argv[] = { (char[]){ "apt-cache" }, (char[]){ "search" }, (char[]){ "--names-only" }, pattern, NULL };
	bh_auto_buf struct bh_buf output = { 0 };
	bh_auto_strv struct bh_strv lines = { 0 };
	int r = run_tool(NULL, argv, &output, err);

	if (r < 0)
		return add_reason(&output, r, err);
	lines = bh_strv_split(output.data ? output.data : "", '\n');
	for (size_t i = 0; i < lines.count; i++) {
		char *line = lines.items[i];

		line[strcspn(line, " ")] = '\0';
		/* Packages that only name the newest have no third number. */
		if (!strchr(line, '.') || !strchr(strchr(line, '.') + 1, '.') || (best && bh_compare_versions(line, best) <= 0))
			continue;
		free(best);
		best = bh_strdup(line);
	}
	if (!best)
		return bh_error_text(err, ENOENT,
				     "the package sources of this machine have no linux-image-%s*-cloud-amd64 (is 'apt-get update' due?)", wanted);
	*ret_package = BH_TAKE_PTR(best);
	return 0;
}

static int fetch(const char *folder, const char *package, struct bh_error *err)
{
	bh_auto_free char *name = bh_strdup(package);
	char *const argv[] = { (char[]){ "apt-get" }, (char[]){ "-q" }, (char[]){ "download" }, name, NULL };
	bh_auto_buf struct bh_buf output = { 0 };

	return add_reason(&output, run_tool(folder, argv, &output, err), err);
}

/* The only file with this end. */
static char *only_file(const char *folder, const char *pattern)
{
	bh_auto_free char *whole = bh_path_join(folder, pattern);
	glob_t found = { 0 };
	char *path = glob(whole, 0, NULL, &found) == 0 && found.gl_pathc == 1 ? bh_strdup(found.gl_pathv[0]) : NULL;

	globfree(&found);
	return path;
}

static int unpack(const char *folder, struct bh_error *err)
{
	bh_auto_free char *package = only_file(folder, "*.deb");
	char *const argv[] = { (char[]){ "dpkg-deb" }, (char[]){ "-x" }, package, (char[]){ "root" }, NULL };
	bh_auto_buf struct bh_buf output = { 0 };

	if (!package)
		return bh_error_text(err, ENOENT, "apt-get has downloaded no package");
	return add_reason(&output, run_tool(folder, argv, &output, err), err);
}

/* --- what is kept --------------------------------------------------------------------------------------------------------- */

static int copy_file(const char *from, int dir_fd, const char *name, struct bh_error *err)
{
	bh_auto_close int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
	const char *slash = strrchr(name, '/');
	bh_auto_free char *folder = slash ? bh_strndup(name, (size_t)(slash - name)) : NULL;
	ssize_t n;
	int r = folder ? bh_mkdir_all(dir_fd, folder, 0755, err) : 0;

	if (r < 0)
		return r;
	out = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (in < 0 || out < 0)
		return bh_error_set(err, errno, "copy %s", from);
	do
		n = copy_file_range(in, NULL, out, NULL, 1u << 30, 0);
	while (n > 0);
	return n < 0 ? bh_error_set(err, errno, "copy %s", from) : 0;
}

static int keep_modules(const struct bh_guest_kernel *kernel, int dir_fd, struct bh_error *err)
{
	bh_auto_strv struct bh_strv files = { 0 };
	bh_auto_buf struct bh_buf text = { 0 }, kept = { 0 };
	bh_auto_free char *list = bh_path_join(kernel->modules, "modules.dep");
	int r = bh_guest_kernel_modules(kernel, &files, err);

	if (r == 0)
		r = bh_read_file_at(AT_FDCWD, list, 8u << 20, &text, err);
	if (r == 0)
		r = bh_mkdir_all(dir_fd, "modules", 0755, err);
	for (size_t i = 0; r == 0 && i < files.count; i++) {
		bh_auto_free char *from = bh_path_join(kernel->modules, files.items[i]), *to = bh_path_join("modules", files.items[i]);
		const char *line = bh_modules_line(text.data, files.items[i]);

		bh_buf_addf(&kept, "%.*s\n", (int)strcspn(line, "\n"), line);
		r = copy_file(from, dir_fd, to, err);
	}
	return r < 0 ? r : bh_write_file_at(dir_fd, "modules/modules.dep", kept.data, kept.length, 0644, 0, err);
}

static int index_modules(const char *root, const char *version, struct bh_error *err)
{
	bh_auto_free char *base = bh_strdup(root), *name = bh_strdup(version);
	char *const argv[] = { (char[]){ "depmod" }, (char[]){ "-b" }, base, name, NULL };
	bh_auto_buf struct bh_buf output = { 0 };

	return add_reason(&output, run_tool(NULL, argv, &output, err), err);
}

/* From the unpacked package into the folder that becomes ROOT/kernels/<version>. */
static int keep(const char *folder, const char *package, char **ret_version, struct bh_error *err)
{
	bh_auto_free char *root = bh_path_join(folder, "root"), *image = only_file(root, "boot/vmlinuz-*"), *kept = bh_path_join(folder, "kept");
	bh_auto_close int dir_fd = bh_make_dir(AT_FDCWD, kept, 0755, err);
	struct bh_guest_kernel kernel = { 0 };
	int r = dir_fd < 0 ? dir_fd : image ? bh_guest_kernel_find("", image, &kernel, err) : bh_error_text(err, ENOENT, "%s has no kernel", package);

	if (r == 0)
		r = index_modules(root, kernel.version, err);
	if (r == 0) { /* now that they have an index */
		bh_guest_kernel_clear(&kernel);
		r = bh_guest_kernel_find("", image, &kernel, err);
	}
	if (r == 0 && !kernel.modules)
		r = bh_error_text(err, ENOENT, "%s has no modules", package);
	if (r == 0)
		r = copy_file(image, dir_fd, "vmlinuz", err);
	if (r == 0)
		r = keep_modules(&kernel, dir_fd, err);
	if (r == 0 && package)
		r = bh_write_file_at(dir_fd, "package", package, strlen(package), 0644, BH_WRITE_SYNC, err);
	if (r == 0)
		*ret_version = BH_TAKE_PTR(kernel.version);
	bh_guest_kernel_clear(&kernel);
	return r;
}

static int install(int kernels_fd, const char *folder, const char *wanted, char **ret_version, struct bh_error *err)
{
	bh_auto_free char *package = NULL, *kept = bh_path_join(folder, "kept"), *version = NULL;
	int r = find_package(wanted, &package, err);

	if (r == 0)
		r = fetch(folder, package, err);
	if (r == 0)
		r = unpack(folder, err);
	if (r == 0)
		r = keep(folder, package, &version, err);
	if (r < 0)
		return r;
	if (renameat(AT_FDCWD, kept, kernels_fd, version) < 0 && errno != EEXIST && errno != ENOTEMPTY)
		return bh_error_set(err, errno, "name the kernel %s", version);
	*ret_version = BH_TAKE_PTR(version);
	return 0;
}

static bool is_version(const char *text)
{
	return *text && *text != '.' && !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~-")];
}

int bh_guest_kernel_install(const char *root, const char *version, char **ret_version, struct bh_error *err)
{
	bh_auto_free char *kernels = bh_path_join(root, "kernels"), *folder = bh_printf("%s/.new.%d", kernels, (int)getpid());
	bh_auto_close int kernels_fd = bh_make_dir(AT_FDCWD, kernels, 0711, err);
	bh_auto_free char *pattern = NULL;
	int r = kernels_fd < 0 ? kernels_fd : 0;

	if (r == 0 && version && !is_version(version))
		r = bh_error_text(err, EINVAL, "'%s' is no version of a kernel", version);
	if (r == 0 && mkdir(folder, 0700) < 0)
		r = bh_error_set(err, errno, "mkdir %s", folder);
	if (r < 0)
		return r;
	pattern = bh_strdup(version && *version ? version : DEFAULT_VERSION);
	/* As users write it: with the package's end or without. */
	if (bh_has_suffix(pattern, "-cloud-amd64"))
		pattern[strlen(pattern) - strlen("-cloud-amd64")] = '\0';
	r = install(kernels_fd, folder, pattern, ret_version, err);
	bh_remove_tree_at(kernels_fd, strrchr(folder, '/') + 1, NULL);
	return r;
}

int bh_guest_kernel_list(const char *root, struct bh_strv *ret_versions, struct bh_error *err)
{
	bh_auto_free char *kernels = bh_path_join(root, "kernels");
	bh_auto_closedir DIR *dir = opendir(kernels);
	struct dirent *entry;

	if (!dir && errno != ENOENT)
		return bh_error_set(err, errno, "open %s", kernels);
	while (dir && (entry = readdir(dir)))
		if (bh_guest_kernel_is_version(entry->d_name))
			bh_strv_add(ret_versions, entry->d_name);
	return 0;
}

int bh_guest_kernel_remove(const char *root, const char *version, struct bh_error *err)
{
	bh_auto_free char *kernels = bh_path_join(root, "kernels");
	bh_auto_close int kernels_fd = open(kernels, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!is_version(version) || kernels_fd < 0 || faccessat(kernels_fd, version, F_OK, 0) < 0)
		return bh_error_text(err, ENOENT, "No such guest kernel: %s", version);
	return bh_remove_tree_at(kernels_fd, version, err);
}
