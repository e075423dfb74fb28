/* SPDX-License-Identifier: Apache-2.0 */
/* `--network tap[:NAME][,bridge=NAME][,ip=ADDRESS/BITS][,gateway=ADDRESS][,mac=ADDRESS]`: a microVM's only network device. */
#include "microvm/microvm-internal.h"

#include "linux/tap.h"

#include <arpa/inet.h>
#include <errno.h>

bool bh_microvm_network_is_tap(const char *mode)
{
	return mode && bh_has_prefix(mode, "tap") && (mode[3] == '\0' || mode[3] == ':' || mode[3] == ',');
}

void bh_microvm_network_clear(struct bh_microvm_network *n)
{
	bh_free_ptr(&n->tap);
	bh_free_ptr(&n->bridge);
	bh_free_ptr(&n->address);
	bh_free_ptr(&n->gateway);
	bh_free_ptr(&n->mac);
}

static bool is_device_name(const char *text)
{
	return *text && strlen(text) < BH_TAP_NAME_SIZE && !strpbrk(text, "/ \t\n%");
}

static bool is_address(const char *text)
{
	struct in_addr address;

	return inet_pton(AF_INET, text, &address) == 1;
}

static bool is_address_with_bits(const char *text)
{
	const char *slash = strchr(text, '/');
	bh_auto_free char *address = bh_strndup(text, slash ? (size_t)(slash - text) : 0);
	int64_t bits;

	return slash && is_address(address) && bh_parse_int(slash + 1, 1, 32, &bits) == 0;
}

static bool is_mac(const char *text)
{
	unsigned b[6];
	char end;

	return strlen(text) == 17 && sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) == 6 && !(b[0] & 1);
}

int bh_microvm_network_parse(const char *mode, struct bh_microvm_network *ret_network, struct bh_error *err)
{
	struct bh_microvm_network n = { .is_set = true };
	const struct {
		const char *key;
		char **value;
		bool (*is_valid)(const char *text);
	} keys[] = {
		{ "tap:", &n.tap, is_device_name },
		{ "bridge=", &n.bridge, is_device_name },
		{ "ip=", &n.address, is_address_with_bits },
		{ "gateway=", &n.gateway, is_address },
		{ "mac=", &n.mac, is_mac },
	};
	bh_auto_strv struct bh_strv words = bh_strv_split(mode, ',');
	int r = 0;

	for (size_t w = bh_streq(words.items[0], "tap") ? 1 : 0; r == 0 && w < words.count; w++) {
		const char *word = words.items[w];
		size_t i = 0;

		while (i < BH_ARRAY_SIZE(keys) && !bh_has_prefix(word, keys[i].key))
			i++;
		if (i == BH_ARRAY_SIZE(keys) || *keys[i].value || !keys[i].is_valid(word + strlen(keys[i].key)))
			r = bh_error_text(err, EINVAL,
					  "--network tap: '%s': expected NAME, bridge=NAME, ip=ADDRESS/BITS, gateway=ADDRESS, mac=ADDRESS, each once",
					  word);
		else
			*keys[i].value = bh_strdup(word + strlen(keys[i].key));
	}
	if (r < 0)
		bh_microvm_network_clear(&n);
	else
		*ret_network = n;
	return r;
}

/* Without one of the user's it is the container's for ever: local, unicast, from its id. */
char *bh_microvm_network_mac(const struct bh_microvm_network *n, const char *id)
{
	unsigned char bytes[5] = { 0 };
	bh_auto_free char *digits = bh_strndup(id, 2 * sizeof bytes);

	if (n->mac)
		return bh_strdup(n->mac);
	bh_parse_hex(digits, bytes, sizeof bytes);
	return bh_printf("02:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]);
}
