/* SPDX-License-Identifier: Apache-2.0 */
/* Around a microVM: order of modules, the initramfs's format, versions, what of a configuration goes where, a session's channels. */
#include "microvm/session-internal.h"

#include "base/file.h"
#include "oci/json.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_modules_come_after_what_they_need(void **state)
{
	static const char text[] = "kernel/a/top.ko.xz: kernel/a/mid-dle.ko.xz kernel/b/base.ko.xz\nkernel/a/mid-dle.ko.xz: kernel/b/base.ko.xz\n"
				   "kernel/b/base.ko.xz:\nkernel/c/circle.ko: kernel/c/circle.ko\n";
	static const char *const names[] = { "top", "mid_dle", "builtin", "circle", NULL };
	bh_auto_strv struct bh_strv files = { 0 };
	bh_auto_free char *joined = NULL;

	(void)state;
	bh_modules_order(text, names, &files);
	joined = bh_strv_join(&files, " ");
	assert_string_equal(joined, "kernel/b/base.ko.xz kernel/a/mid-dle.ko.xz kernel/a/top.ko.xz kernel/c/circle.ko");
	assert_memory_equal(bh_modules_line(text, "kernel/b/base.ko.xz"), "kernel/b/base.ko.xz:", 20);
	assert_null(bh_modules_line(text, "kernel/b/base.ko"));
}

static void test_versions_are_compared_by_their_numbers(void **state)
{
	(void)state;
	assert_true(bh_compare_versions("6.12.9-cloud-amd64", "6.12.117-cloud-amd64") < 0);
	assert_true(bh_compare_versions("6.12.117+deb12-cloud-amd64", "6.1.0-56-cloud-amd64") > 0);
	assert_true(bh_compare_versions("6.12", "6.12.1") < 0);
	assert_int_equal(bh_compare_versions("6.1", "6.1"), 0);
}

static void test_the_archive_has_its_form(void **state)
{
	bh_auto_close int fd = memfd_create("archive", MFD_CLOEXEC);
	struct bh_cpio cpio = { .fd = fd, .next_inode = 1 };
	char bytes[512];
	struct stat st;

	(void)state;
	assert_int_equal(bh_cpio_add(&cpio, "ab", S_IFREG | 0644, 0, "hello", 5), 0);
	assert_int_equal(bh_cpio_end(&cpio), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, cpio.offset);
	assert_int_equal(st.st_size % 4, 0);
	assert_true(pread(fd, bytes, sizeof bytes, 0) > 200);
	assert_memory_equal(bytes, "07070100000001000081a4", 22); /* magic, inode, mode */
	assert_memory_equal(bytes + 54, "00000005", 8);           /* size */
	assert_memory_equal(bytes + 94,
			    "00000003"
			    "00000000"
			    "ab",
			    19); /* length of the name, no checksum, the name */
	assert_memory_equal(bytes + 116,
			    "hello\0\0\0"
			    "070701",
			    14);
}

static void test_limits_are_the_machines(void **state)
{
	struct bh_microvm vm = { .memory = (int64_t)256 << 20 };
	struct bh_spec_resources resources;
	struct bh_spec spec = { 0 };

	(void)state;
	spec.resources.pids_limit = (struct bh_opt_i64)BH_SOME(7);
	spec.resources.cpu.quota = (struct bh_opt_i64)BH_SOME(50000);
	resources = bh_microvm_resources(&vm, &spec);
	assert_true(resources.memory.limit.value > vm.memory);
	assert_int_equal(resources.cpu.quota.value, 50000);
	assert_false(resources.pids_limit.set);
	vm.memory = 1 << 20;
	resources = bh_microvm_resources(&vm, &spec);
	assert_true(resources.memory.limit.value > BH_MICROVM_MEMORY_MIN);
}

static void test_sizes(void **state)
{
	static const struct {
		int64_t memory, size;
	} cases[] = {
		{ 0, BH_MICROVM_MEMORY_DEFAULT }, { 1, 128 << 20 },         { 64 << 20, 160 << 20 },  { (64 << 20) + 1, 161 << 20 },
		{ 128 << 20, 224 << 20 },         { 200 << 20, 224 << 20 }, { 256 << 20, 256 << 20 },
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++)
		assert_int_equal(bh_microvm_size(&(struct bh_microvm){ .memory = cases[i].memory }), cases[i].size);
}

static void test_the_request_has_the_containers_part(void **state)
{
	bh_auto_buf struct bh_buf text = { 0 };
	const struct bh_microvm_file file = { "/etc/hosts", "127.0.0.1\tlocal\"host\n" };
	struct bh_microvm vm = { .files = &file, .file_count = 1, .init = true };
	struct bh_microvm_shares shares = { 0 };
	struct bh_spec spec = { 0 };
	json_object *request;

	(void)state;
	bh_spec_default(&spec);
	bh_strv_add(&spec.process.args, "sh");
	spec.resources.memory.limit = (struct bh_opt_i64)BH_SOME(1);
	spec.resources.pids_limit = (struct bh_opt_i64)BH_SOME(7);
	bh_spec_add_mount(&spec, "/data", "bind", "/usr", "rbind,ro");
	bh_spec_add_mount(&spec, "/a/file", "bind", "/proc/self/status", "bind");
	spec.hooks.poststop.items = bh_calloc(1, sizeof *spec.hooks.poststop.items);
	spec.hooks.poststop.items[spec.hooks.poststop.count++].path = bh_strdup("/of/the/host");
	assert_int_equal(bh_microvm_shares_open(&vm, &spec, &shares, NULL), 0);
	assert_int_equal(shares.count, 2);
	assert_int_equal(shares.file_count, 1);
	assert_true(shares.folders[0].readonly);
	assert_false(shares.files[0].readonly);
	assert_int_equal(bh_microvm_request_write(
				 &(struct bh_microvm_request){
					 .spec = &spec, .id = "an-id", .user = "us\"er", .vm = &vm, .shares = &shares, .virtio_shares = true },
				 &text, NULL),
			 0);
	bh_microvm_shares_clear(&shares);
	request = json_tokener_parse(text.data);
	assert_non_null(request);
	assert_string_equal(bh_json_text(request, "user", ""), "us\"er");
	assert_true(bh_json_bool(request, "init", false));
	assert_int_equal(bh_json_int(request, "config.linux.resources.pids.limit", 0), 7);
	assert_null(bh_json_at(request, "config.linux.resources.memory.limit"));
	assert_int_equal(bh_json_int(request, "virtio_shares", 0), 2);
	assert_string_equal(bh_json_text(request, "image", ""), BH_MICROVM_IMAGE_TYPE);
	assert_non_null(strstr(text.data, "\"" BH_AGENT_SHARES "/0\""));
	assert_non_null(strstr(text.data, "\"" BH_AGENT_SHARES "/1/0\""));
	assert_null(strstr(text.data, "\"/usr\""));
	assert_null(strstr(text.data, "/proc/self/status"));
	assert_null(strstr(text.data, "/of/the/host"));
	json_object_put(request);
	/* Less than a machine can have. */
	vm.memory = 64 << 20;
	bh_buf_clear(&text);
	assert_int_equal(bh_microvm_request_write(&(struct bh_microvm_request){ .spec = &spec, .id = "an-id", .vm = &vm }, &text, NULL), 0);
	request = json_tokener_parse(text.data);
	assert_int_equal(bh_json_int(request, "config.linux.resources.memory.limit", 0), 64 << 20);
	json_object_put(request);
	bh_spec_clear(&spec);
}

/* --- a session -------------------------------------------------------------------------------------------------------------- */

struct fixture {
	struct session session;
	struct bh_monitor monitor;
	struct bh_microvm_start start;
	struct bh_session_setup setup;
	struct bh_buf request;
	int report[2], output[2];
};

static void begin(struct fixture *f)
{
	memset(f, 0, sizeof *f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, f->report), 0);
	assert_int_equal(pipe(f->output), 0);
	bh_buf_adds(&f->request, "{}");
	f->monitor.transport = "vport";
	f->start = (struct bh_microvm_start){ .stdin_fd = -1, .stdout_fd = f->output[1], .stderr_fd = -1 };
	f->setup = (struct bh_session_setup){
		.start = &f->start, .monitor = &f->monitor, .request = &f->request, .listen_fd = -1, .terminal_fd = -1, .report_fd = f->report[1]
	};
	session_init(&f->session, &f->setup);
}

static void end(struct fixture *f)
{
	session_clear(&f->session);
	bh_buf_clear(&f->request);
	close(f->report[0]);
	close(f->report[1]);
	close(f->output[0]);
}

static int say(struct fixture *f, enum bh_agent_type type, enum bh_agent_stream stream, const void *payload, size_t length)
{
	bh_auto_buf struct bh_buf bytes = { 0 };

	bh_agent_put(&bytes, type, type == BH_AGENT_HELLO ? 0 : BH_AGENT_WORKLOAD, stream, payload, length);
	return session_take(&f->session, bytes.data, bytes.length, NULL);
}

static int say_hello(struct fixture *f)
{
	const struct bh_agent_hello hello = { .version = BH_AGENT_VERSION };

	return say(f, BH_AGENT_HELLO, 0, &hello, sizeof hello);
}

static void test_a_workload_from_begin_to_end(void **state)
{
	const uint32_t code = 7;
	struct bh_session_report report;
	struct fixture f;
	char text[8];

	(void)state;
	begin(&f);
	assert_int_equal(say_hello(&f), 0);
	assert_int_equal(say(&f, BH_AGENT_STARTED, 0, NULL, 0), 0);
	assert_int_equal(recv(f.report[0], &report, sizeof report, 0), sizeof report);
	assert_true(report.started);
	assert_int_equal(say(&f, BH_AGENT_DATA, BH_AGENT_STDOUT, "hi", 2), 0);
	assert_int_equal(say(&f, BH_AGENT_EXITED, 0, &code, sizeof code), 0);
	session_finish_ended(&f.session);
	assert_true(f.session.is_over);
	assert_int_equal(f.session.exit_code, 7);
	assert_int_equal(read(f.output[0], text, sizeof text), 2);
	end(&f);
}

static void test_one_that_waits_is_started_by_a_client(void **state)
{
	struct bh_session_report report;
	struct bh_session_answer answer;
	int client[2];
	struct fixture f;

	(void)state;
	begin(&f);
	f.start.waits = true;
	assert_int_equal(say_hello(&f), 0);
	assert_int_equal(recv(f.report[0], &report, sizeof report, 0), sizeof report);
	assert_true(report.started); /* the machine is */
	assert_true(f.session.is_waiting);
	assert_true(f.session.is_held); /* until the starter says otherwise */
	assert_null(session_find(&f.session, BH_AGENT_WORKLOAD));
	assert_int_equal(say(&f, BH_AGENT_STARTED, 0, NULL, 0), -EPROTO); /* nobody has asked the guest for it */
	end(&f);

	begin(&f);
	f.start.waits = true;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, client), 0);
	assert_int_equal(say_hello(&f), 0);
	f.session.clients[3] = (struct session_client){ .fd = client[1], .channel = BH_AGENT_WORKLOAD };
	session_start_workload(&f.session);
	assert_false(f.session.is_waiting);
	assert_int_equal(say(&f, BH_AGENT_STARTED, 0, NULL, 0), 0);
	assert_int_equal(recv(client[0], &answer, sizeof answer, MSG_DONTWAIT), sizeof answer);
	assert_int_equal(answer.tell, BH_TELL_STARTED);
	assert_int_equal(f.session.clients[3].channel, 0);
	close(client[0]);
	end(&f);
}

static void test_what_failed_is_told_without_control_characters(void **state)
{
	struct bh_agent_failure failure = { .errnum = ENOENT, .exit_code = 127, .of_workload = 1, .text = "no \x1b[2J" };
	struct bh_session_report report;
	struct fixture f;

	(void)state;
	begin(&f);
	assert_int_equal(say_hello(&f), 0);
	assert_int_equal(say(&f, BH_AGENT_FAILED, 0, &failure, BH_AGENT_FAILURE_MIN + strlen(failure.text)), 0);
	assert_int_equal(recv(f.report[0], &report, sizeof report, 0), sizeof report);
	assert_false(report.started);
	assert_int_equal(report.error.exit_code, 127);
	assert_true(report.error.of_workload);
	assert_string_equal(report.error.message, "no ?[2J");
	assert_true(f.session.is_over);
	end(&f);
}

static void test_words_out_of_turn_are_refused(void **state)
{
	const struct bh_agent_hello old = { .version = BH_AGENT_VERSION + 1 };
	const uint32_t code = 0, big = 256;
	struct fixture f;

	(void)state;
	begin(&f);
	assert_int_equal(say(&f, BH_AGENT_STARTED, 0, NULL, 0), -EPROTO); /* before hello */
	end(&f);
	begin(&f);
	assert_int_equal(say(&f, BH_AGENT_HELLO, 0, &old, sizeof old), -EPROTO);
	end(&f);
	begin(&f);
	assert_int_equal(say_hello(&f), 0);
	assert_int_equal(say_hello(&f), -EPROTO); /* twice */
	end(&f);
	begin(&f);
	assert_int_equal(say_hello(&f), 0);
	assert_int_equal(say(&f, BH_AGENT_EXITED, 0, &code, sizeof code), -EPROTO); /* before it was started */
	end(&f);
	begin(&f);
	assert_int_equal(say_hello(&f), 0);
	assert_int_equal(say(&f, BH_AGENT_STARTED, 0, NULL, 0), 0);
	assert_int_equal(say(&f, BH_AGENT_EXITED, 0, &big, sizeof big), -EPROTO);
	end(&f);
}

static void test_the_last_words_are_a_panics(void **state)
{
	static const char text[] = "[ 1.0] something\n[ 2.0] Kernel panic - not syncing: no init\x1b\n[ 3.0] Rebooting\n\n";
	bh_auto_free char *words = NULL, *last = NULL;
	struct fixture f;

	(void)state;
	begin(&f);
	session_take_console(&f.session, "a\nlast\n", 7);
	last = session_last_words(&f.session);
	assert_string_equal(last, "its last words: last");
	session_take_console(&f.session, text, strlen(text));
	words = session_last_words(&f.session);
	assert_string_equal(words, "Kernel panic - not syncing: no init");
	for (int i = 0; i < 1000; i++)
		session_take_console(&f.session, text, strlen(text));
	assert_true(f.session.console.length <= 2 * SESSION_CONSOLE_MAX);
	end(&f);
}

static int configured(const char *bytes, size_t length, struct bh_microvm_defaults *ret_defaults, struct bh_error *err)
{
	bh_auto_close int fd = memfd_create("config", MFD_CLOEXEC);
	bh_auto_free char *path = bh_printf("/proc/self/fd/%d", fd);

	assert_return_code(bh_write_all(fd, bytes, length), 0);
	return bh_microvm_defaults_read(path, ret_defaults, err);
}

static void test_the_configuration_is_text_of_a_bounded_size(void **state)
{
	static const char text[] = "accel\t= kvm \r\n kernel = /a = b\n#accel = tcg", broken[] = "kernel = /a\nkernel =", zero[] = "accel = kvm\0";
	bh_auto(bh_microvm_defaults_clear) struct bh_microvm_defaults d = { 0 };
	bh_auto_free char *big = bh_calloc(1, 1 << 20);
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	memset(big, '\n', 1 << 20);
	assert_int_equal(configured(big, 1 << 20, &d, &err), -EFBIG);
	assert_int_equal(configured(zero, sizeof zero, &d, &err), -EINVAL);
	assert_non_null(strstr(err.message, "is no text"));
	assert_int_equal(configured(broken, sizeof broken - 1, &d, &err), -EINVAL);
	assert_non_null(strstr(err.message, ":2: kernel = : the absolute path of a file is expected"));
	assert_int_equal(bh_microvm_defaults_read("/", &d, &err), -EISDIR);
	assert_null(d.kernel);
	assert_int_equal(configured(text, sizeof text - 1, &d, &err), 0);
	assert_string_equal(d.accelerator, "kvm");
	assert_string_equal(d.kernel, "/a = b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modules_come_after_what_they_need),
		cmocka_unit_test(test_versions_are_compared_by_their_numbers),
		cmocka_unit_test(test_the_archive_has_its_form),
		cmocka_unit_test(test_limits_are_the_machines),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_the_request_has_the_containers_part),
		cmocka_unit_test(test_a_workload_from_begin_to_end),
		cmocka_unit_test(test_one_that_waits_is_started_by_a_client),
		cmocka_unit_test(test_what_failed_is_told_without_control_characters),
		cmocka_unit_test(test_words_out_of_turn_are_refused),
		cmocka_unit_test(test_the_last_words_are_a_panics),
		cmocka_unit_test(test_the_configuration_is_text_of_a_bounded_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
