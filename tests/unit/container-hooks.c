/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 300
// lab: always
/*
 * The container driver: hooks as their programs see them, and what differs by the flags of runc's command line (keyring,
 * chroot instead of pivot_root) and by HOME. Needs root.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <linux/keyctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>

/* --- hooks ------------------------------------------------------------------------------------------------------------ */

struct kind {
	const char *name;
	struct bh_spec_hooks *hooks;
};

static void all_kinds(struct bh_spec *s, struct kind kinds[6])
{
	kinds[0] = (struct kind){ "prestart", &s->hooks.prestart };
	kinds[1] = (struct kind){ "createRuntime", &s->hooks.create_runtime };
	kinds[2] = (struct kind){ "createContainer", &s->hooks.create_container };
	kinds[3] = (struct kind){ "startContainer", &s->hooks.start_container };
	kinds[4] = (struct kind){ "poststart", &s->hooks.poststart };
	kinds[5] = (struct kind){ "poststop", &s->hooks.poststop };
}

static struct bh_spec *with_state(void **state)
{
	struct bh_spec *s = fixture(state);

	bh_strv_add(&s->annotations, "org.example.a=b=c");
	request.id = "hooked";
	request.bundle = folder;
	return s;
}

/* What a hook sees goes into the folder's file SEEN, or for the one inside the root, into its /tmp. */
static void see_everything(struct bh_spec *s, const char *where)
{
	struct kind kinds[6];

	all_kinds(s, kinds);
	for (int i = 0; i < 6; i++) {
		bh_auto_free char *script = bh_printf(
			"{ cat; echo; pwd; env | grep -v -E '^(PWD|SHLVL|_|OLDPWD|PATH)='; ls /proc/self/fd | wc -l; } >%s/%s",
			i == 3 ? "/tmp" : where, kinds[i].name);

		add_hook(kinds[i].hooks, "hook", script, 0);
		kinds[i].hooks->items[kinds[i].hooks->count - 1].env_given = true;
	}
}

static void test_what_hooks_see(void **state)
{
	struct bh_spec *s = with_state(state);
	struct bh_container_process p;
	struct bh_hook_state stopped = { .id = "hooked", .bundle = folder, .status = "stopped" };
	bh_auto_free char *rest = bh_printf(",\"bundle\":\"%s\",\"annotations\":{\"org.example.a\":\"b=c\"}}\n%s\n", folder, folder);
	bh_auto_free char *inside = NULL, *after = NULL;

	see_everything(s, folder);
	set_command(s, "true");
	create(s, &p);
	assert_int_equal(bh_container_start(&p, &error), 0);
	assert_int_equal(finish(&p), 0);
	for (int i = 0; i < 2; i++) {
		bh_auto_free char *outside = bh_printf("{\"ociVersion\":\"1.2.0\",\"id\":\"hooked\",\"status\":\"%s\",\"pid\":%d%s",
						       i ? "creating" : "created", (int)p.pid, rest);

		read_back(i ? "createRuntime" : "prestart");
		expect(outside);
		expect("\n4\n"); /* its three streams, and the folder that ls reads */
		expect_not("HOME=");
	}
	read_back("createContainer");
	expect("\"status\":\"creating\",\"pid\":1,");
	inside = bh_printf("}}\n%s\n", in_test("root"));
	expect(inside);
	read_back("root/tmp/startContainer");
	expect("\"status\":\"created\",\"pid\":1,");
	expect("}}\n/\n");
	assert_int_equal(bh_container_hooks(s, &s->hooks.poststop, "poststop", &stopped, &error), 0);
	read_back("poststop");
	after = bh_printf("{\"ociVersion\":\"1.2.0\",\"id\":\"hooked\",\"status\":\"stopped\"%s", rest);
	expect(after);
}

static void test_hook_environment(void **state)
{
	struct bh_spec *s = with_state(state);
	bh_auto_free char *script = bh_printf("env >%s", in_test("env"));

	assert_int_equal(setenv("BH_OF_THE_RUNTIME", "1", 1), 0);
	add_hook(&s->hooks.create_runtime, "hook", script, 0);
	bh_strv_clear(&s->hooks.create_runtime.items[0].env);
	assert_int_equal(run(s, "true"), 0);
	read_back("env");
	expect("BH_OF_THE_RUNTIME=1");
	s->hooks.create_runtime.items[0].env_given = true;
	assert_int_equal(run(s, "true"), 0);
	read_back("env");
	expect_not("BH_OF_THE_RUNTIME");
	bh_strv_add(&s->hooks.create_runtime.items[0].env, "OWN=value");
	assert_int_equal(run(s, "true"), 0);
	read_back("env");
	expect("OWN=value");
	unsetenv("BH_OF_THE_RUNTIME");
}

static void test_hook_failures(void **state)
{
	static const struct {
		const char *script, *words;
		int64_t timeout_s;
	} cases[] = {
		{ "exit 1", "exit status 1, stdout: , stderr: ", 0 },
		{ "echo out; echo to >&2; echo bad >&2; exit 77", "exit status 77, stdout: out, stderr: to bad", 0 },
		{ "kill -TERM $$", "signal: terminated, stdout: , stderr: ", 5 },
		{ "sleep 30", "hook ran past specified timeout of 1.0s", 1 },
		{ "head -c 1000000 /dev/zero | tr '\\0' x; exit 2", "exit status 2, stdout: xxxx", 0 },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec *s = with_state(state);
		struct kind kinds[6];

		all_kinds(s, kinds);
		for (int k = 0; k < 4; k++) {
			bh_auto_free char *words = bh_printf("error running %s hook #0: %s", kinds[k].name, cases[i].words);

			/* What the container's own busybox lacks. */
			if (k == 3 && strstr(cases[i].script, "tr "))
				continue;
			add_hook(kinds[k].hooks, "hook", cases[i].script, cases[i].timeout_s);
			assert_int_equal(run(s, "echo ran"), 125);
			expect_error(words);
			expect_not("ran");
			free_hooks(kinds[k].hooks);
		}
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* A grandchild that keeps the streams open holds nobody up. */
static void test_hook_leaves_a_child(void **state)
{
	struct bh_spec *s = with_state(state);
	bh_auto_free char *script = bh_printf("sleep 60 & echo $! >%s", in_test("pid"));

	add_hook(&s->hooks.create_runtime, "hook", script, 5);
	assert_int_equal(run(s, "true"), 0);
	read_back("pid");
	kill((pid_t)strtol(output, NULL, 10), SIGKILL);
}

static void test_hook_not_found(void **state)
{
	struct bh_spec *s = with_state(state);

	add_hook(&s->hooks.create_runtime, "hook", "", 0);
	free(s->hooks.create_runtime.items[0].path);
	s->hooks.create_runtime.items[0].path = bh_strdup("/nonexistent/hook");
	assert_int_equal(run(s, "true"), 125);
	expect_error("error running createRuntime hook #0: fork/exec /nonexistent/hook: No such file or directory");
}

/* --- HOME --------------------------------------------------------------------------------------------------------------- */

static void test_home(void **state)
{
	struct bh_spec *s = fixture(state);

	assert_int_equal(run(s, "echo \"<$HOME>\""), 0);
	assert_string_equal(output, "</>\n");
	make_file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n");
	assert_int_equal(run(s, "echo \"<$HOME>\""), 0);
	assert_string_equal(output, "</root>\n");
	s->process.user.uid = 1000;
	assert_int_equal(run(s, "echo \"<$HOME>\""), 0);
	assert_string_equal(output, "</home/alice>\n");
	s->process.user.uid = 1001;
	assert_int_equal(run(s, "echo \"<$HOME>\""), 0);
	assert_string_equal(output, "</>\n");
	bh_strv_add(&s->process.env, "HOME=/own");
	assert_int_equal(run(s, "echo \"<$HOME>\""), 0);
	assert_string_equal(output, "</own>\n");
	/* A file that can't be read is none. */
	unlink(in_test("root/etc/passwd"));
	assert_int_equal(mkfifo(in_test("root/etc/passwd"), 0600), 0);
	bh_strv_remove(&s->process.env, s->process.env.count - 1);
	assert_int_equal(run(s, "echo \"<$HOME>\""), 0);
	assert_string_equal(output, "</>\n");
}

static void test_home_of_exec(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;

	make_file("root/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
	set_command(s, "sleep 66");
	start(s, &p);
	assert_int_equal(exec_in(s, &p, "echo \"<$HOME>\""), 0);
	assert_string_equal(output, "</root>\n");
	kill(p.pid, SIGKILL);
	finish(&p);
}

/* --- flags --------------------------------------------------------------------------------------------------------------- */

static void test_keyring(void **state)
{
	struct bh_spec *s = fixture(state);
	long serial = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "bh-test", 0, 0, 0);

	if (serial < 0)
		skip();
	bh_strv_clear(&s->masked_paths);
	/* A process possesses the keys of its session; from another one they can only be seen by their owner's rights. */
	bh_auto_free char *script = bh_printf("busybox awk '/keyring.*bh-test/ { print \"found\" }' /proc/keys");

	if (access("/proc/keys", F_OK) < 0)
		skip();
	request.no_new_keyring = true;
	assert_int_equal(run(s, script), 0);
	expect("found");
	request.no_new_keyring = false;
	assert_int_equal(syscall(SYS_keyctl, KEYCTL_SETPERM, serial, 0x3f000000, 0, 0), 0);
	assert_int_equal(run(s, script), 0);
	expect_not("found");
	assert_true(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) > 0);
}

static void test_no_pivot(void **state)
{
	struct bh_spec *s = fixture(state);

	make_file("outside", "secret");
	request.no_pivot = true;
	s->process.capabilities.bounding = s->process.capabilities.effective = s->process.capabilities.permitted = bh_capability_all_set();
	s->seccomp.source = BH_SECCOMP_NONE;
	bh_auto_free char *script = bh_printf("ls /; test -e %s && echo escaped; mkdir -p /tmp/jail; cp /bin/busybox /tmp/jail; cd /; "
					      "busybox chroot /tmp/jail /busybox sh -c 'cd ../../../../../../..; ./busybox ls -d .'; "
					      "test -e /proc/1/root%s && echo escaped; grep -c ' - proc ' /proc/self/mountinfo",
					      in_test("outside"), in_test("outside"));

	assert_int_equal(run(s, script), 0);
	expect("bin\n");
	expect_not("escaped");
	s->rootfs_propagation = bh_strdup("rprivate");
	assert_int_equal(run(s, "true"), 125);
	expect_error("rootfsPropagation of [r]private is not safe without pivot_root");
	free(s->rootfs_propagation);
	s->rootfs_propagation = bh_strdup("rslave");
	assert_int_equal(run(s, "true"), 0);
	/* The host has its own still. */
	assert_int_equal(access("/proc/self/status", F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_hooks_see),      TEST(test_hook_environment), TEST(test_hook_failures),
		TEST(test_hook_leaves_a_child), TEST(test_hook_not_found),   TEST(test_home),
		TEST(test_home_of_exec),        TEST(test_keyring),          TEST(test_no_pivot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
