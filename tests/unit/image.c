/* SPDX-License-Identifier: Apache-2.0 */
/* The store without its helper: documents, index, names, resolving, collecting, staging. */
#include "base/file.h"
#include "image/store.h"
#include "oci/image-json.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char *root;
static struct bh_image_store store;

static int setup(void **state)
{
	char template[] = "/tmp/bh-image-XXXXXX";

	(void)state;
	root = bh_strdup(mkdtemp(template));
	return bh_image_store_open(root, &store, NULL);
}

static int teardown(void **state)
{
	(void)state;
	bh_image_store_close(&store);
	bh_remove_tree_at(AT_FDCWD, root, NULL);
	free(root);
	return 0;
}

/* Puts an image with one layer into the store; the layer exists only as an unpacked folder. */
static struct bh_descriptor put_image(const char *mark)
{
	bh_auto_free char *config = NULL, *meta = NULL;
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_manifest manifest = { .layer_count = 1 };
	struct bh_descriptor result = { .media_type = BH_MEDIA_MANIFEST };
	char diff_id[BH_DIGEST_MAX];

	assert_int_equal(bh_image_blob_write(&store, mark, strlen(mark), diff_id, NULL), 0);
	config = bh_printf("{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"2020-01-02T03:04:05Z\",\"config\":{\"Cmd\":[\"%s\"]},"
			   "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}",
			   mark, diff_id);
	memcpy(manifest.layers[0].digest, diff_id, sizeof diff_id);
	assert_int_equal(bh_image_blob_write(&store, config, strlen(config), manifest.config.digest, NULL), 0);
	bh_manifest_write(&manifest, &text);
	assert_int_equal(bh_image_blob_write(&store, text.data, text.length, result.digest, NULL), 0);
	result.size = (int64_t)text.length;
	meta = bh_printf("%s/diff", bh_digest_hex(diff_id));
	assert_int_equal(bh_mkdir_all(store.layers_fd, meta, 0755, NULL), 0);
	free(meta);
	meta = bh_printf("%s/meta.json", bh_digest_hex(diff_id));
	assert_int_equal(bh_write_file_at(store.layers_fd, meta, "{\"size\":5,\"inodes\":1}", 21, 0644, 0, NULL), 0);
	return result;
}

static void give_name(const char *name, const struct bh_descriptor *manifest)
{
	bh_auto_json struct json_object *index = NULL;

	assert_int_equal(bh_image_index_load(&store, &index, NULL), 0);
	bh_image_index_set(index, name, manifest);
	assert_int_equal(bh_image_index_save(&store, index, NULL), 0);
}

static size_t entries(void)
{
	bh_auto_json struct json_object *index = NULL;

	assert_int_equal(bh_image_index_load(&store, &index, NULL), 0);
	return bh_image_index_count(index);
}

static void test_names(void **state)
{
	struct bh_descriptor one = put_image("one"), two = put_image("two");
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	give_name(NULL, &one);
	give_name(NULL, &one);
	assert_int_equal(entries(), 1);
	give_name("box:1", &one); /* the nameless entry goes */
	assert_int_equal(entries(), 1);
	give_name("box:2", &one);
	give_name("box:2", &one);
	assert_int_equal(entries(), 2);
	give_name("box:2", &two); /* the name moves; `one` has another */
	assert_int_equal(entries(), 2);
	give_name("box:1", &two); /* `one` stays without a name */
	assert_int_equal(entries(), 3);
	assert_int_equal(bh_image_resolve(&store, "docker.io/library/box:1", &image, &err), 0);
	assert_string_equal(image.name, "box:1");
	assert_string_equal(image.manifest, two.digest);
	assert_string_equal(image.cmd.items[0], "two");
	assert_int_equal(image.layer_paths.count, 1);
	assert_int_equal(image.size_bytes, -1);
	assert_int_equal(bh_image_measure(&store, &image, NULL), 0);
	assert_int_equal(image.size_bytes, 5);
	bh_image_clear(&image);
	assert_int_equal(bh_image_resolve(&store, "box:3", &image, &err), -ENOENT);
	assert_string_equal(err.message, "No such image: box:3");
	assert_int_equal(bh_image_resolve(&store, "ab", &image, &err), -ENOENT);
}

static void test_foreign_names(void **state)
{
	static const struct {
		const char *annotations, *name;
	} cases[] = {
		{ "{\"org.opencontainers.image.ref.name\":\"latest\"}", "latest:latest" },
		{ "{\"org.opencontainers.image.ref.name\":\"box:1\"}", "box:1" },
		{ "{\"org.opencontainers.image.ref.name\":\"1\",\"io.containerd.image.name\":\"docker.io/library/box:1\"}", "box:1" },
		{ "{\"org.opencontainers.image.ref.name\":\"other:2\",\"io.containerd.image.name\":\"docker.io/library/box:1\"}", "other:2" },
		{ "{\"io.containerd.image.name\":\"there.example/box:1\"}", "there.example/box:1" },
		{ "{\"org.opencontainers.image.ref.name\":\"Not A Name\"}", NULL },
		{ "{\"org.opencontainers.image.ref.name\":7}", NULL },
		{ "{}", NULL },
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		bh_auto_free char *json = bh_printf("{\"annotations\":%s}", cases[i].annotations), *name = NULL;
		bh_auto_json struct json_object *entry = NULL;

		assert_int_equal(bh_image_json_parse(json, strlen(json), "entry", &entry, NULL), 0);
		name = bh_image_entry_name(entry);
		if (!bh_streq(name, cases[i].name))
			fail_msg("%s gives %s", cases[i].annotations, name);
	}
}

static void test_collect(void **state)
{
	struct bh_descriptor kept = put_image("kept"), gone = put_image("gone"), used = put_image("used");
	bh_auto_json struct json_object *index = NULL;
	bh_auto_strv struct bh_strv deleted = { 0 }, users = { 0 };
	bh_auto(bh_image_clear) struct bh_image image = { 0 };
	struct bh_image_store other;
	bh_auto_free char *record = NULL;

	(void)state;
	give_name("used", &used);
	assert_int_equal(bh_image_resolve(&store, "used", &image, NULL), 0);
	record = bh_printf("{\"id\":\"%s\",\"name\":\"ship\",\"image_id\":\"%s\"}", HEX, image.id);
	assert_int_equal(bh_mkdir_all(store.root_fd, "containers/" HEX, 0700, NULL), 0);
	assert_int_equal(bh_write_file_at(store.root_fd, "containers/" HEX "/container.json", record, strlen(record), 0600, 0, NULL), 0);
	assert_int_equal(bh_image_users(&store, image.id, &users, NULL), 0);
	assert_int_equal(users.count, 1);
	assert_string_equal(users.items[0], "ship");
	give_name("used", &kept); /* takes the name; the used image is only the container's now */
	assert_int_equal(bh_image_index_load(&store, &index, NULL), 0);
	for (size_t i = bh_image_index_count(index); i-- > 0;)
		if (!bh_streq(bh_image_json_string(bh_image_index_entry(index, i), "digest"), kept.digest))
			json_object_array_del_idx(bh_image_json_array(index, "manifests"), i, 1);
	/* Somebody relies on what he has found: nothing is deleted. `store` holds such a lock since the resolve. */
	assert_int_equal(bh_image_collect(&store, index, &deleted, NULL), 0);
	assert_int_equal(deleted.count, 0);
	bh_image_store_close(&store);
	assert_int_equal(bh_image_store_open(root, &store, NULL), 0);
	assert_int_equal(bh_image_collect(&store, index, &deleted, NULL), 0);
	assert_true(bh_strv_contains(&deleted, gone.digest));
	assert_false(bh_strv_contains(&deleted, kept.digest));
	assert_false(bh_strv_contains(&deleted, image.id));
	assert_true(bh_image_layer_exists(&store, image.diff_ids.items[0]));
	assert_int_equal(bh_image_index_save(&store, index, NULL), 0);
	assert_int_equal(bh_image_store_open(root, &other, NULL), 0);
	bh_image_store_close(&other);
	assert_int_equal(bh_remove_tree_at(store.root_fd, "containers", NULL), 0);
}

static void test_damage(void **state)
{
	struct bh_descriptor one = put_image("one");
	struct bh_image image = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	char path[256];

	(void)state;
	give_name("damaged", &one);
	snprintf(path, sizeof path, "blobs/sha256/%s", bh_digest_hex(one.digest));
	assert_int_equal(bh_write_file_at(store.content_fd, path, "{}", 2, 0644, 0, NULL), 0);
	assert_int_equal(bh_image_resolve(&store, "damaged", &image, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "damaged in the store"));
	assert_int_equal(unlinkat(store.content_fd, path, 0), 0);
	assert_int_equal(bh_image_resolve(&store, "damaged", &image, &err), -ENOENT);
	assert_int_equal(bh_write_file_at(store.content_fd, "index.json", "{", 1, 0644, 0, NULL), 0);
	assert_int_equal(bh_image_resolve(&store, "damaged", &image, &err), -EINVAL);
	assert_non_null(strstr(err.message, "index.json"));
	assert_int_equal(unlinkat(store.content_fd, "index.json", 0), 0);
	assert_int_equal(entries(), 0);
}

static void test_documents(void **state)
{
	static const char *const configs[] = {
		"",
		"[]",
		"{}",
		"{\"rootfs\":{\"diff_ids\":[\"sha256:12\"]}}",
		"{\"rootfs\":{\"diff_ids\":[7]}}",
		"{\"created\":\"yesterday\",\"rootfs\":{\"diff_ids\":[]}}",
		"{\"config\":{\"Env\":[1]},\"rootfs\":{\"diff_ids\":[]}}",
		"{\"rootfs\":{\"diff_ids\":[]}} x",
	};
	static const char good[] = "{\"config\":{\"Entrypoint\":[],\"Labels\":{\"a\":\"b\"},\"Volumes\":{\"/x\":{}},\"Healthcheck\":{\"Test\":[\"NONE\"],"
				   "\"Interval\":5},\"User\":null},\"rootfs\":{\"diff_ids\":[]}}\n";
	struct bh_image image = { 0 };
	struct bh_manifest manifest;
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(configs); i++) {
		bh_error_clear(&err);
		assert_true(bh_image_config_parse(configs[i], strlen(configs[i]), &image, &err) < 0);
		assert_true(err.message[0]);
		assert_true(bh_manifest_parse(configs[i], strlen(configs[i]), &manifest, &err) < 0);
	}
	assert_int_equal(bh_image_config_parse(good, strlen(good), &image, &err), 0);
	assert_true(image.has_entrypoint && !image.has_cmd && !image.entrypoint.count && image.healthcheck.set);
	assert_int_equal(image.healthcheck.interval_ns, 5);
	assert_string_equal(image.labels.items[0], "a=b");
	assert_string_equal(image.volumes.items[0], "/x");
	assert_null(image.user);
	bh_image_clear(&image);
}

static void test_layer_twice(void **state)
{
	struct bh_image image = { 0 };

	(void)state;
	bh_strv_add(&image.diff_ids, "sha256:" HEX);
	bh_strv_add(&image.diff_ids, "sha256:1111111111111111111111111111111111111111111111111111111111111111");
	bh_strv_add(&image.diff_ids, "sha256:" HEX);
	bh_image_layer_paths(&store, &image);
	assert_int_equal(image.layer_paths.count, 2); /* overlayfs would refuse it twice; the upper one hides the lower */
	assert_non_null(strstr(image.layer_paths.items[1], HEX));
	bh_image_clear(&image);
}

static void test_staging(void **state)
{
	struct bh_staging mine = BH_STAGING_INIT;
	bh_auto_free char *path = NULL;
	struct bh_image_store other;

	(void)state;
	assert_int_equal(bh_staging_create(&store, &mine, NULL), 0);
	path = bh_printf("staging/%s", mine.name);
	assert_int_equal(mkdirat(store.root_fd, "staging/image-0-0", 0700), 0);
	assert_int_equal(bh_image_store_open(root, &other, NULL), 0);
	bh_staging_sweep(&other);
	bh_image_store_close(&other);
	assert_int_equal(faccessat(store.root_fd, path, F_OK, 0), 0);
	assert_int_equal(faccessat(store.root_fd, "staging/image-0-0", F_OK, 0), -1);
	bh_staging_remove(&store, &mine);
	assert_int_equal(faccessat(store.root_fd, path, F_OK, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),     cmocka_unit_test(test_foreign_names), cmocka_unit_test(test_collect), cmocka_unit_test(test_damage),
		cmocka_unit_test(test_documents), cmocka_unit_test(test_layer_twice),   cmocka_unit_test(test_staging),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
