/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device rules on cgroup v2: there are no files for them, the kernel asks a BPF program (BPF_PROG_TYPE_CGROUP_DEVICE) that
 * is attached to the cgroup (kernel: Documentation/admin-guide/cgroup-v2.rst, "Device controller").
 *
 * The program is generated: one short run of compares per exception, then the base answer. It is attached with
 * BPF_F_ALLOW_MULTI, so that a program on a folder below is asked as well and both must agree: a container that manages
 * cgroups of its own can only narrow its rights. It belongs to the cgroup and goes with it; nothing keeps an fd.
 */
#include "cgroup/cgroup-internal.h"

#include "base/log.h"

#include <errno.h>
#include <linux/bpf.h>
#include <sys/syscall.h>

/* By which it is found again. */
#define PROGRAM_NAME "bulkhead_dev"
/* Upper bound on exceptions, so that jumps (16 bits) and the program's size stay far from their limits. */
#define EXCEPTIONS_MAX 512
#define INSTRUCTIONS_PER_EXCEPTION 8

enum {
	R_ANSWER = BPF_REG_0,
	R_CONTEXT = BPF_REG_1,
	R_TYPE = BPF_REG_2,
	R_ACCESS = BPF_REG_3,
	R_MAJOR = BPF_REG_4,
	R_MINOR = BPF_REG_5,
	R_SCRATCH = BPF_REG_6
};

struct program {
	struct bpf_insn *instructions;
	size_t count;
};

static void emit(struct program *p, unsigned code, unsigned dst, unsigned src, int offset, int value)
{
	p->instructions[p->count++] = (struct bpf_insn){
		.code = (__u8)code, .dst_reg = dst & 15, .src_reg = src & 15, .off = (__s16)offset, .imm = value
	};
}

static void emit_answer(struct program *p, bool allow)
{
	emit(p, BPF_ALU64 | BPF_MOV | BPF_K, R_ANSWER, 0, 0, allow);
	emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void emit_prologue(struct program *p)
{
	emit(p, BPF_LDX | BPF_MEM | BPF_W, R_TYPE, R_CONTEXT, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
	emit(p, BPF_ALU64 | BPF_MOV | BPF_X, R_ACCESS, R_TYPE, 0, 0);
	emit(p, BPF_ALU64 | BPF_RSH | BPF_K, R_ACCESS, 0, 0, 16);
	emit(p, BPF_ALU64 | BPF_AND | BPF_K, R_TYPE, 0, 0, 0xffff);
	emit(p, BPF_LDX | BPF_MEM | BPF_W, R_MAJOR, R_CONTEXT, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
	emit(p, BPF_LDX | BPF_MEM | BPF_W, R_MINOR, R_CONTEXT, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
}

static unsigned access_mask(const char *access)
{
	return (strchr(access, 'r') ? BPF_DEVCG_ACC_READ : 0u) | (strchr(access, 'w') ? BPF_DEVCG_ACC_WRITE : 0u) |
	       (strchr(access, 'm') ? BPF_DEVCG_ACC_MKNOD : 0u);
}

static void emit_exception(struct program *p, const struct bh_spec_device_rule *rule, bool allow)
{
	unsigned jump_if_not = BPF_JMP | BPF_JNE | BPF_K;
	unsigned mask = access_mask(rule->access);
	size_t first = p->count;

	emit(p, jump_if_not, R_TYPE, 0, 0, rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (rule->major >= 0)
		emit(p, jump_if_not, R_MAJOR, 0, 0, (int)rule->major);
	if (rule->minor >= 0)
		emit(p, jump_if_not, R_MINOR, 0, 0, (int)rule->minor);
	if (mask != 7) {
		/* To allow, all that is asked for must be in the rule; to deny, any of it. */
		emit(p, BPF_ALU64 | BPF_MOV | BPF_X, R_SCRATCH, R_ACCESS, 0, 0);
		emit(p, BPF_ALU64 | BPF_AND | BPF_K, R_SCRATCH, 0, 0, allow ? (int)(~mask & 7) : (int)mask);
		emit(p, allow ? jump_if_not : BPF_JMP | BPF_JEQ | BPF_K, R_SCRATCH, 0, 0, 0);
	}
	emit_answer(p, allow);
	for (size_t i = first; i < p->count; i++) {
		struct bpf_insn *jump = &p->instructions[i];

		if (BPF_CLASS(jump->code) == BPF_JMP && BPF_OP(jump->code) != BPF_EXIT)
			jump->off = (__s16)(p->count - i - 1);
	}
}

static int load(const struct program *p)
{
	union bpf_attr attr = { 0 };

	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = (uintptr_t)p->instructions;
	attr.insn_cnt = (__u32)p->count;
	attr.license = (uintptr_t) "Apache-2.0";
	snprintf(attr.prog_name, sizeof attr.prog_name, PROGRAM_NAME);
	/* The fd is O_CLOEXEC by birth (kernel: bpf_prog_new_fd). */
	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
}

/* --- replacing ----------------------------------------------------------------------------------------------------------- */

/* The kernel attaches at most this many to one folder (BPF_CGROUP_MAX_PROGS). */
#define ATTACHED_MAX 64

static int bpf(int command, union bpf_attr *attr)
{
	int r = (int)syscall(SYS_bpf, command, attr, sizeof *attr);

	return r < 0 ? -errno : r;
}

static bool is_ours(int program_fd)
{
	struct bpf_prog_info info = { 0 };
	union bpf_attr attr = { 0 };

	attr.info.bpf_fd = (__u32)program_fd;
	attr.info.info_len = sizeof info;
	attr.info.info = (uintptr_t)&info;
	return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) == 0 && bh_streq(info.name, PROGRAM_NAME);
}

/* An fd of the program that was attached before, or -1. Others (systemd's) stay as they are. */
static int find_ours(int folder_fd)
{
	__u32 ids[ATTACHED_MAX];
	union bpf_attr query = { 0 };

	query.query.target_fd = (__u32)folder_fd;
	query.query.attach_type = BPF_CGROUP_DEVICE;
	query.query.prog_ids = (uintptr_t)ids;
	query.query.prog_cnt = ATTACHED_MAX;
	if (bpf(BPF_PROG_QUERY, &query) < 0)
		return -1;
	for (__u32 i = 0; i < query.query.prog_cnt && i < ATTACHED_MAX; i++) {
		union bpf_attr attr = { 0 };
		int fd;

		attr.prog_id = ids[i];
		fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
		if (fd >= 0 && is_ours(fd))
			return fd;
		bh_close_fd(&fd);
	}
	return -1;
}

/* BPF_F_REPLACE (5.6) swaps the program in one step: no moment without rules, none with both. */
static int attach(int folder_fd, int program_fd, bool replace)
{
	bh_auto_close int old = replace ? find_ours(folder_fd) : -1;
	union bpf_attr attr = { 0 };

	attr.target_fd = (__u32)folder_fd;
	attr.attach_bpf_fd = (__u32)program_fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI | (old >= 0 ? BPF_F_REPLACE : 0u);
	attr.replace_bpf_fd = old >= 0 ? (__u32)old : 0;
	return bpf(BPF_PROG_ATTACH, &attr);
}

int bh_cgroup_attach_device_program(int folder_fd, const struct bh_device_set *set, bool replace, struct bh_error *err)
{
	bh_auto_free struct bpf_insn *instructions = bh_calloc(set->count * INSTRUCTIONS_PER_EXCEPTION + 8, sizeof *instructions);
	struct program program = { .instructions = instructions };
	bh_auto_close int fd = -1;
	int r;

	if (set->count > EXCEPTIONS_MAX)
		return bh_error_text(err, E2BIG, "linux.resources.devices: %zu rules, at most %d are supported", set->count, EXCEPTIONS_MAX);
	emit_prologue(&program);
	for (size_t i = 0; i < set->count; i++)
		emit_exception(&program, &set->exceptions[i], !set->allow_all);
	emit_answer(&program, set->allow_all);
	fd = load(&program);
	if (fd < 0)
		return bh_error_set(err, errno, "load the device filter (BPF, %zu instructions)", program.count);
	r = attach(folder_fd, fd, replace);
	if (r < 0)
		return bh_error_set(err, -r, "attach the device filter");
	if (bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *size = bh_printf("%zu", program.count), *rules = bh_printf("%zu", set->count);

		bh_explain("cgroup", "attach", "device filter (BPF)", "base", set->allow_all ? "allow" : "deny", "exceptions", rules, "instructions",
			   size);
	}
	return 0;
}
