/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: which way of telling overlayfs its layers is tried first (overlay.c). */
#pragma once

enum bh_overlay_way { BH_OVERLAY_LOWERDIR_PLUS, BH_OVERLAY_LOWERDIR, BH_OVERLAY_MOUNT };
extern enum bh_overlay_way bh_overlay_first_way;
