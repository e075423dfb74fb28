/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which features of the host's processors a guest sees: all of them, or those of a level that many machines have, so that it can move
 * between machines that differ.
 *
 *	MODEL[,+FEATURE][,-FEATURE]...	MODEL: host, x86-64-v1 .. x86-64-v4 (also v1 .. v4, and baseline: x86-64-v1)
 *
 * A level has exactly the instructions that the x86-64 psABI names for it, what every 64-bit processor has besides (paging, time stamp counter, local
 * APIC...), and KVM's own leaves. A feature that rests on one that isn't there goes with it (AVX2 with AVX), and so do the parts of the extended
 * state (leaf 0xd) that only it has. Registers that a feature has are KVM's to hide: it does so where the guest doesn't see the feature. Vendor, family,
 * caches and addresses stay the host's.
 *
 * Pure functions on tables (Linux Documentation/virt/kvm/api.rst, KVM_GET_SUPPORTED_CPUID). Names are Linux's in /proc/cpuinfo.
 */
#pragma once

#include "base/error.h"

#include <linux/kvm.h>

/* -EINVAL: not a model, or a feature that isn't known. */
int bh_cpu_model_parse(const char *model, struct bh_error *err);
/* Changes the table, which has what the host can give. -EINVAL: not a model; -ENOTSUP: the host lacks what it needs (all of it is named). */
int bh_cpu_model_apply(const char *model, struct kvm_cpuid2 *table, struct bh_error *err);
/* Whether every feature of `table` is one that the host can give, or is `shown` (may be NULL) by its processors to any guest: where the CPUID
 * instruction isn't intercepted, KVM gives less than a guest sees. -ENOTSUP: what is missing is named. */
int bh_cpu_model_check(const struct kvm_cpuid2 *table, const struct kvm_cpuid2 *host, const struct kvm_cpuid2 *shown, struct bh_error *err);
