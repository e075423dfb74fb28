/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON documents of images: configuration, manifest, index. */
#include "image/store.h"
#include "oci/image-json.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bh_manifest manifest;
	const char *json = (const char *)data;
	struct bh_error err = BH_ERROR_INIT;
	struct bh_image image = { 0 };
	struct json_object *index = NULL;
	size_t place;

	if (bh_image_config_parse(json, size, &image, &err) == 0) {
		for (size_t i = 0; i < image.diff_ids.count; i++)
			if (!bh_digest_is_valid(image.diff_ids.items[i]))
				__builtin_trap();
	} else if (!err.message[0]) {
		__builtin_trap();
	}
	bh_image_clear(&image);
	if (bh_manifest_parse(json, size, &manifest, &err) == 0) {
		struct bh_manifest again;
		bh_auto_buf struct bh_buf text = { 0 };

		bh_manifest_write(&manifest, &text);
		if (bh_manifest_parse(text.data, text.length, &again, &err) < 0 || again.layer_count != manifest.layer_count)
			__builtin_trap();
	}
	if (bh_image_json_parse(json, size, "index", &index, &err) == 0) {
		bh_index_pick(index, "index", &place, &err);
		for (size_t i = 0; i < bh_image_index_count(index); i++) {
			struct json_object *entry = bh_image_index_entry(index, i);
			struct bh_descriptor descriptor;
			char *name = bh_image_entry_name(entry);

			if (bh_descriptor_parse(entry, "entry", &descriptor, &err) == 0 && name && bh_image_index_count(index) < 100) {
				bh_image_index_set(index, "fuzz:latest", &descriptor);
				bh_image_index_set(index, NULL, &descriptor);
			}
			free(name);
		}
		bh_image_json_put(&index);
	}
	return 0;
}
