/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels for guests, and which of their modules a microVM needs.
 *
 * A kernel is known by its version, which a bzImage tells in its header (Documentation/arch/x86/boot.rst, kernel_version); the modules
 * are those of the same version. modules.dep (depmod(8)) says what each one needs.
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#define HEADER_SIZE 0x10000 /* of a bzImage's begin, where the version is */
#define MODULES_DEP_MAX (8u << 20)
#define DEPTH_MAX 32 /* of dependencies */

#define MISSING "no guest kernel is here: get Debian's with 'bulkhead vm kernel install', or name one with --kernel FILE"

/* What the agent and a container need that kernels have as modules. What isn't in modules.dep is built in. */
static const char *const module_names[] = {
	"virtio_pci", "virtio_mmio", "virtio_console", "virtio_blk", "virtio_net", "virtio_rng", "vmw_vsock_virtio_transport",
	"ext4",       "erofs",       "overlay",        "fuse",       "virtiofs",   NULL,
};

void bh_guest_kernel_clear(struct bh_guest_kernel *k)
{
	bh_free_ptr(&k->version);
	bh_free_ptr(&k->image);
	bh_free_ptr(&k->modules);
}

static int read_version(const char *path, char **ret_version, struct bh_error *err)
{
	bh_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	bh_auto_free unsigned char *bytes = bh_calloc(1, HEADER_SIZE + 1);
	ssize_t n = fd < 0 ? -1 : pread(fd, bytes, HEADER_SIZE, 0);
	size_t at;

	if (n < 0)
		return bh_error_set(err, errno, "read the kernel %s", path);
	at = n > 0x210 && memcmp(bytes + 0x202, "HdrS", 4) == 0 ? 0x200u + (bytes[0x20e] | (size_t)bytes[0x20f] << 8) : (size_t)n;
	if (at >= (size_t)n || at == 0x200)
		return bh_error_text(err, ENOEXEC, "%s is no Linux kernel with a version in it (a bzImage is needed)", path);
	*ret_version = bh_strndup((const char *)bytes + at, strcspn((const char *)bytes + at, " "));
	if (!**ret_version || strchr(*ret_version, '/')) {
		bh_free_ptr(ret_version);
		return bh_error_text(err, ENOEXEC, "%s has no version", path);
	}
	return 0;
}

static bool has_modules(const char *folder)
{
	bh_auto_free char *path = bh_path_join(folder, "modules.dep");

	return access(path, R_OK) == 0;
}

/* Beside the kernel (ROOT/kernels), where its package has them, or the machine's own. */
static char *find_modules(const char *image, const char *version)
{
	bh_auto_free char *folder = bh_strndup(image, (size_t)(strrchr(image, '/') ? strrchr(image, '/') - image : 0));
	char *places[] = {
		bh_printf("%s/modules", *folder ? folder : "."),
		bh_printf("%s/../lib/modules/%s", *folder ? folder : ".", version),
		bh_printf("%s/../usr/lib/modules/%s", *folder ? folder : ".", version),
		bh_printf("/lib/modules/%s", version),
	};
	char *found = NULL;

	for (size_t i = 0; i < BH_ARRAY_SIZE(places); i++) {
		if (!found && has_modules(places[i]))
			found = BH_TAKE_PTR(places[i]);
		free(places[i]);
	}
	return found;
}

static int take(const char *path, const char *from, struct bh_guest_kernel *ret_kernel, struct bh_error *err)
{
	char *version;
	int r = read_version(path, &version, err);

	if (r < 0)
		return r;
	*ret_kernel = (struct bh_guest_kernel){ .version = version, .image = bh_strdup(path), .modules = find_modules(path, version), .from = from };
	return 0;
}

int bh_compare_versions(const char *a, const char *b)
{
	while (*a && *b) {
		if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
			char *end_a, *end_b;
			unsigned long x = strtoul(a, &end_a, 10), y = strtoul(b, &end_b, 10);

			if (x != y)
				return x < y ? -1 : 1;
			a = end_a;
			b = end_b;
		} else if (*a != *b) {
			return *a < *b ? -1 : 1;
		} else {
			a++;
			b++;
		}
	}
	return (*a != 0) - (*b != 0);
}

bool bh_guest_kernel_is_version(const char *name)
{
	return isdigit((unsigned char)*name) && !strchr(name, '/');
}

/* The newest name in the folder with these ends; without a beginning a version. */
static char *newest(const char *folder, const char *prefix, const char *suffix)
{
	bh_auto_closedir DIR *dir = opendir(folder);
	struct dirent *entry;
	char *best = NULL;

	while (dir && (entry = readdir(dir))) {
		if (!bh_has_prefix(entry->d_name, prefix) || !bh_has_suffix(entry->d_name, suffix))
			continue;
		if (!*prefix && !bh_guest_kernel_is_version(entry->d_name))
			continue;
		if (best && bh_compare_versions(entry->d_name, best) <= 0)
			continue;
		free(best);
		best = bh_strdup(entry->d_name);
	}
	return best;
}

static char *find_image(const char *root, const char **ret_from)
{
	bh_auto_free char *kernels = bh_path_join(root, "kernels"), *own = newest(kernels, "", "");
	bh_auto_free char *cloud = own ? NULL : newest("/boot", "vmlinuz-", "-cloud-amd64");
	bh_auto_free char *generic = own || cloud ? NULL : newest("/boot", "vmlinuz-", "-amd64");

	*ret_from = own ? "vm kernel install" : "/boot";
	if (own)
		return bh_printf("%s/%s/vmlinuz", kernels, own);
	return cloud || generic ? bh_printf("/boot/%s", cloud ? cloud : generic) : NULL;
}

static int take_as_told(const char *path, const char *from, struct bh_guest_kernel *ret_kernel, struct bh_error *err)
{
	int r = take(path, from, ret_kernel, err);

	return r < 0 ? bh_error_prefix(err, "%s", from) : 0;
}

int bh_guest_kernel_find(const char *root, const char *path, struct bh_guest_kernel *ret_kernel, struct bh_error *err)
{
	bh_auto(bh_microvm_defaults_clear) struct bh_microvm_defaults defaults = { 0 };
	bh_auto_free char *found = NULL;
	const char *from;
	int r;

	if (path && *path)
		return take(path, NULL, ret_kernel, err);
	path = getenv("BULKHEAD_KERNEL");
	if (path && *path)
		return take_as_told(path, "BULKHEAD_KERNEL", ret_kernel, err);
	r = bh_microvm_defaults_read(BH_MICROVM_CONFIG, &defaults, err);
	if (r < 0)
		return r;
	if (defaults.kernel)
		return take_as_told(defaults.kernel, BH_MICROVM_CONFIG, ret_kernel, err);
	found = find_image(root, &from);
	return found ? take(found, from, ret_kernel, err) : bh_error_text(err, ENOENT, MISSING);
}

/* --- modules ---------------------------------------------------------------------------------------------------------- */

/* The name of a module in a path, in which '-' and '_' are the same. */
static bool is_module(const char *path, size_t length, const char *name)
{
	const char *base = path + length, *end;
	size_t i;

	while (base > path && base[-1] != '/')
		base--;
	end = memchr(base, '.', (size_t)(path + length - base));
	if (!end || (size_t)(end - base) != strlen(name))
		return false;
	for (i = 0; name[i]; i++)
		if (base[i] != name[i] && !(base[i] == '-' && name[i] == '_') && !(base[i] == '_' && name[i] == '-'))
			return false;
	return true;
}

static const char *find_line(const char *text, const char *path, size_t length)
{
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (strcspn(line, ":\n") == length && strncmp(line, path, length) == 0)
			return line;
	return NULL;
}

const char *bh_modules_line(const char *text, const char *file)
{
	return find_line(text, file, strlen(file));
}

/* The module of this line after those it needs. */
static void add_line(const char *text, const char *line, unsigned depth, struct bh_strv *files)
{
	size_t length = strcspn(line, ":\n");
	bh_auto_free char *file = bh_strndup(line, length);
	bh_auto_free char *rest = line[length] == ':' ? bh_strndup(line + length + 1, strcspn(line + length + 1, "\n")) : bh_strdup("");
	bh_auto_strv struct bh_strv needed = bh_strv_split(rest, ' ');

	if (depth > DEPTH_MAX || bh_strv_contains(files, file))
		return;
	for (size_t i = needed.count; i > 0; i--) {
		const char *below = bh_modules_line(text, needed.items[i - 1]);

		if (*needed.items[i - 1] && below)
			add_line(text, below, depth + 1, files);
	}
	if (!bh_strv_contains(files, file)) /* a circle has added it */
		bh_strv_add(files, file);
}

void bh_modules_order(const char *text, const char *const *names, struct bh_strv *ret_files)
{
	for (; *names; names++)
		for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
			if (is_module(line, strcspn(line, ":\n"), *names)) {
				add_line(text, line, 0, ret_files);
				break;
			}
}

int bh_guest_kernel_modules(const struct bh_guest_kernel *k, struct bh_strv *ret_files, struct bh_error *err)
{
	bh_auto_free char *path = k->modules ? bh_path_join(k->modules, "modules.dep") : NULL;
	bh_auto_buf struct bh_buf text = { 0 };
	int r = path ? bh_read_file_at(AT_FDCWD, path, MODULES_DEP_MAX, &text, err) : 0;

	if (r == 0 && text.length)
		bh_modules_order(text.data, module_names, ret_files);
	return r;
}
