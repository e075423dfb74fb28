/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/names.h"

#include "base/string.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <sys/random.h>

/* Ships, seas and the people who worked on them: a bulkhead is part of a ship. */
static const char *const adjectives[] = {
	"able",  "amber", "ample",  "brave",    "bright",  "brisk", "calm",     "clear",   "coastal", "cosy",   "deep",   "dry",
	"eager", "early", "fair",   "fast",     "firm",    "fond",  "fresh",    "gentle",  "glad",    "golden", "grand",  "green",
	"hardy", "high",  "keen",   "kind",     "late",    "level", "light",    "lively",  "long",    "loyal",  "lucky",  "merry",
	"mild",  "neat",  "noble",  "northern", "open",    "plain", "proud",    "quick",   "quiet",   "rapid",  "ready",  "safe",
	"salty", "sharp", "silver", "slow",     "smooth",  "sound", "southern", "steady",  "still",   "stout",  "strong", "swift",
	"tidal", "tidy",  "trim",   "true",     "upright", "warm",  "watchful", "western", "wide",    "windy",  "wise",   "young",
};
static const char *const nouns[] = {
	"anchor", "atoll",   "barge",   "bay",     "beacon",  "bilge",  "boom",   "bosun",    "bow",     "brig",      "buoy",    "cabin",
	"canal",  "capstan", "captain", "clipper", "compass", "coral",  "crew",   "cutter",   "deck",    "delta",     "dock",    "ferry",
	"fjord",  "frigate", "galley",  "gull",    "harbour", "hatch",  "haven",  "helm",     "hold",    "hull",      "island",  "jetty",
	"keel",   "ketch",   "lagoon",  "lantern", "lock",    "lugger", "mast",   "mate",     "mooring", "navigator", "oar",     "pier",
	"pilot",  "port",    "quay",    "reef",    "rigger",  "rudder", "sail",   "schooner", "sextant", "shoal",     "skipper", "sloop",
	"sound",  "spar",    "stern",   "strait",  "swell",   "tide",   "tiller", "trawler",  "tug",     "wharf",     "winch",   "yawl",
};

char *bh_random_name(unsigned attempt)
{
	uint16_t random[3] = { 0 };

	(void)!getrandom(random, sizeof random, 0);
	if (attempt < 2)
		return bh_printf("%s_%s", adjectives[random[0] % BH_ARRAY_SIZE(adjectives)], nouns[random[1] % BH_ARRAY_SIZE(nouns)]);
	return bh_printf("%s_%s%d", adjectives[random[0] % BH_ARRAY_SIZE(adjectives)], nouns[random[1] % BH_ARRAY_SIZE(nouns)], random[2] % 1000);
}

int bh_parse_signal(const char *text, int *ret_signal)
{
	int64_t number;

	if (isdigit((unsigned char)*text)) {
		if (bh_parse_int(text, 1, SIGRTMAX, &number) < 0)
			return -EINVAL;
		*ret_signal = (int)number;
		return 0;
	}
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (int signal = 1; signal < NSIG; signal++) {
		const char *name = sigabbrev_np(signal);

		if (name && strcasecmp(name, text) == 0) {
			*ret_signal = signal;
			return 0;
		}
	}
	if (strncasecmp(text, "RTMIN", 5) == 0 && (!text[5] || text[5] == '+')) {
		if (text[5] && bh_parse_int(text + 6, 0, SIGRTMAX - SIGRTMIN, &number) < 0)
			return -EINVAL;
		*ret_signal = SIGRTMIN + (text[5] ? (int)number : 0);
		return 0;
	}
	return -EINVAL;
}
