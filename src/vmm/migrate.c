/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/migrate.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "vmm/machine-internal.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAGIC 0x33474d42u /* "BMG3" */
#define PAGES_PER_MESSAGE 64
#define STATE_MAX (64u << 20)
#define ROUNDS_MAX 30 /* more won't make it fit */
#define WAIT_MS 200   /* between two looks whether it was cancelled */
#define ANSWER_MS 30000
#define WORDS_MAX 200

enum message { HELLO = 1, PAGES, ZEROES, STATE, READY, REFUSED, GO };

struct header {
	uint32_t type, count;  /* pages, or bytes of the state or the words */
	uint64_t first;        /* page; of HELLO: bytes of memory; of STATE: its CRC-32C */
	uint32_t magic, vcpus; /* of HELLO */
};

struct sender {
	struct bh_machine *m;
	const struct bh_migration_config *config;
	int64_t begun_ns;
	uint64_t sent;
	uint64_t *dirty;         /* what the other side hasn't got */
	double rate;             /* bytes a second, of the last round */
	bool stood;              /* before we came: then it has no downtime */
	int64_t stands_since_ns; /* by us */
	int64_t until_ns;        /* when the other side has to have it all, 0: no limit */
	struct bh_error *err;
};

/* --- the stream ------------------------------------------------------------------------------------------------------- */

static int check_cancelled(struct sender *s)
{
	if (atomic_load(&s->m->migration.cancelled))
		return bh_error_text(s->err, ECANCELED, "the migration was cancelled");
	if (s->config->timeout_ms && bh_monotonic_ns() - s->begun_ns > s->config->timeout_ms * 1000000)
		return bh_error_text(s->err, ETIMEDOUT, "the migration took longer than %lld ms", (long long)s->config->timeout_ms);
	if (s->until_ns && bh_monotonic_ns() > s->until_ns)
		return bh_error_text(s->err, ETIMEDOUT, "the machine would have stood longer than %lld ms", (long long)s->config->downtime_ms);
	return atomic_load(&s->m->vm.end) == BH_VM_RUNNING ? 0 : bh_error_text(s->err, ECANCELED, "the machine has ended");
}

/* Not faster than allowed. */
static void keep_pace(struct sender *s)
{
	int64_t due_ns = s->config->bandwidth ? (int64_t)((double)s->sent / (double)s->config->bandwidth * 1e9) : 0;
	int64_t early_ns = due_ns - (bh_monotonic_ns() - s->begun_ns);

	if (early_ns > 1000000)
		poll(NULL, 0, (int)BH_MIN(early_ns / 1000000, (int64_t)WAIT_MS));
}

static int send_bytes(struct sender *s, const void *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		struct pollfd p = { .fd = s->config->fd, .events = POLLOUT };
		int r = check_cancelled(s);
		ssize_t n;

		if (r < 0)
			return r;
		keep_pace(s);
		if (poll(&p, 1, WAIT_MS) <= 0)
			continue;
		n = send(s->config->fd, (const char *)bytes + done, length - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return bh_error_set(s->err, errno, "send the machine");
		done += n > 0 ? (size_t)n : 0;
		s->sent += n > 0 ? (size_t)n : 0;
	}
	atomic_store(&s->m->migration.sent, s->sent);
	return 0;
}

static int send_message(struct sender *s, const struct header *header, const void *bytes, size_t length)
{
	int r = send_bytes(s, header, sizeof *header);

	return r < 0 || length == 0 ? r : send_bytes(s, bytes, length);
}

/* --- sending ---------------------------------------------------------------------------------------------------------- */

/* So many of them; NULL where the hole lies between. */
static uint8_t *pages_at(const struct bh_guest_memory *memory, uint64_t page, uint64_t count)
{
	uint64_t offset = page * BH_GUEST_PAGE;

	return bh_guest_at(memory, offset < BH_GUEST_HOLE_START ? offset : offset - BH_GUEST_HOLE_START + BH_GUEST_HOLE_END, count * BH_GUEST_PAGE);
}

static uint8_t *page_at(const struct bh_guest_memory *memory, uint64_t page)
{
	return pages_at(memory, page, 1);
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, BH_GUEST_PAGE - 1) == 0;
}

static bool is_set(const uint64_t *bitmap, uint64_t page)
{
	return bitmap[page / 64] >> (page % 64) & 1;
}

static uint64_t count_set(const uint64_t *bitmap, size_t words)
{
	uint64_t count = 0;

	for (size_t i = 0; i < words; i++)
		count += (uint64_t)__builtin_popcountll(bitmap[i]);
	return count;
}

/* Pages that follow each other, all zero or all not. */
static int send_run(struct sender *s, uint64_t first, uint64_t end, bool zero)
{
	const struct header header = { .type = zero ? ZEROES : PAGES, .count = (uint32_t)(end - first), .first = first };
	int r = send_bytes(s, &header, sizeof header);

	return r < 0 || zero ? r : send_bytes(s, pages_at(&s->m->vm.memory, first, end - first), (end - first) * BH_GUEST_PAGE);
}

/* Where the pages end that go into one message: of one kind, and all on one side of the hole. */
static uint64_t end_of_run(const struct sender *s, uint64_t first, bool zero)
{
	const struct bh_guest_memory *memory = &s->m->vm.memory;
	uint64_t end = BH_MIN(memory->size / BH_GUEST_PAGE, first + PAGES_PER_MESSAGE), page = first + 1;

	while (page < end && page != BH_GUEST_HOLE_START / BH_GUEST_PAGE && is_set(s->dirty, page) && is_zero(page_at(memory, page)) == zero)
		page++;
	return page;
}

/* `first_round`: the receiver's memory is zero already. */
static int send_dirty(struct sender *s, bool first_round)
{
	uint64_t pages = s->m->vm.memory.size / BH_GUEST_PAGE;
	int r = 0;

	for (uint64_t page = 0; r == 0 && page < pages;) {
		uint64_t first = page;
		bool zero;

		if (!is_set(s->dirty, page)) {
			page += s->dirty[page / 64] ? 1 : 64 - page % 64;
			continue;
		}
		zero = is_zero(page_at(&s->m->vm.memory, page));
		page = end_of_run(s, first, zero);
		if (!zero || !first_round)
			r = send_run(s, first, page, zero);
	}
	return r;
}

/* What was written since the last call is to be sent too. */
static int add_dirty(struct sender *s, uint64_t *ret_count)
{
	int r = bh_vm_take_dirty(&s->m->vm, s->dirty, s->err);

	*ret_count = count_set(s->dirty, bh_vm_dirty_words(&s->m->vm));
	atomic_store(&s->m->migration.left, *ret_count * BH_GUEST_PAGE);
	return r;
}

/* One round: what is known to be written; then what was written meanwhile, which is left. */
static int send_round(struct sender *s, bool first, uint64_t *ret_left)
{
	int64_t start_ns = bh_monotonic_ns();
	uint64_t before = s->sent;
	int r = send_dirty(s, first);

	memset(s->dirty, 0, bh_vm_dirty_words(&s->m->vm) * sizeof *s->dirty);
	if (r == 0)
		r = add_dirty(s, ret_left);
	s->rate = BH_MAX((double)(s->sent - before) / BH_MAX((double)(bh_monotonic_ns() - start_ns) / 1e9, 1e-6), 1e6);
	return r;
}

/* At the speed of the last round, what is left can be sent before the machine has stood too long. */
static bool fits(const struct sender *s, uint64_t left, int64_t stands_since_ns)
{
	double ms = (double)(left * BH_GUEST_PAGE) / s->rate * 1000;

	if (stands_since_ns)
		ms += (double)(bh_monotonic_ns() - stands_since_ns) / 1e6;
	return ms <= (double)s->config->downtime_ms;
}

/* Rounds while the machine runs, until what is left fits into the downtime, also once it stands; it stands then. */
static int send_running(struct sender *s)
{
	uint64_t left = s->m->vm.memory.size / BH_GUEST_PAGE;
	int r = bh_machine_log_dirty(s->m, true, s->err);

	for (uint64_t i = 0; i < left; i++)
		s->dirty[i / 64] |= 1ULL << (i % 64);
	for (int round = 0; r == 0 && round < ROUNDS_MAX; round++) {
		atomic_store(&s->m->migration.rounds, (unsigned long)round + 1);
		r = send_round(s, round == 0, &left);
		if (r < 0 || !fits(s, left, 0))
			continue;
		s->stands_since_ns = bh_monotonic_ns();
		if (!s->stood)
			bh_machine_pause(s->m);
		r = add_dirty(s, &left);
		if (r == 0 && fits(s, left, s->stands_since_ns))
			return 0;
		if (!s->stood)
			bh_machine_resume(s->m);
	}
	return r < 0 ? r :
		       bh_error_text(s->err, EBUSY,
				     "the guest writes its memory faster than it can be sent: %llu MiB are left after %d rounds, too much for %lld ms",
				     (unsigned long long)(left * BH_GUEST_PAGE >> 20), ROUNDS_MAX, (long long)s->config->downtime_ms);
}

/* All of it by then: who stalls in the middle of an answer keeps no machine standing. */
static int receive_bytes(struct sender *s, void *bytes, size_t length, int64_t until_ns)
{
	for (size_t done = 0; done < length;) {
		struct pollfd p = { .fd = s->config->fd, .events = POLLIN };
		int64_t left_ns = BH_MAX(until_ns - bh_monotonic_ns(), (int64_t)0);
		ssize_t n;

		if (poll(&p, 1, (int)BH_MIN((left_ns + 999999) / 1000000, (int64_t)ANSWER_MS)) <= 0) {
			int r = check_cancelled(s);

			return r < 0 ? r : bh_error_text(s->err, ETIMEDOUT, "the other side doesn't answer");
		}
		n = read(s->config->fd, (char *)bytes + done, length - done);
		if (n <= 0)
			return bh_error_set(s->err, n < 0 ? errno : ENODATA, "the other side's answer");
		done += (size_t)n;
	}
	return 0;
}

static int receive_answer(struct sender *s)
{
	int64_t until_ns = s->until_ns ? s->until_ns : bh_monotonic_ns() + ANSWER_MS * 1000000LL;
	char words[WORDS_MAX + 1] = { 0 };
	struct header header = { 0 };
	int r = receive_bytes(s, &header, sizeof header, until_ns);

	if (r < 0 || header.type == READY)
		return r;
	/* Without its words it is refused all the same. */
	if (header.type == REFUSED && header.count <= WORDS_MAX && receive_bytes(s, words, header.count, until_ns) < 0)
		words[0] = 0;
	return bh_error_text(s->err, EINVAL, "the other side refuses the machine: %s", words);
}

/* The machine stands. */
static int send_rest(struct sender *s)
{
	const struct header go = { .type = GO };
	bh_auto_buf struct bh_buf state = { 0 };
	struct header header = { .type = STATE };
	int r = bh_machine_save(s->m, &state, s->err);

	if (!s->stood)
		s->until_ns = s->stands_since_ns + s->config->downtime_ms * 1000000;
	if (r == 0)
		r = send_dirty(s, false);
	header.count = (uint32_t)state.length;
	header.first = bh_crc32c(0, state.data, state.length);
	if (r == 0)
		r = send_message(s, &header, state.data, state.length);
	if (r == 0)
		r = receive_answer(s);
	return r < 0 ? r : send_bytes(s, &go, sizeof go);
}

static int move(struct sender *s, int64_t *ret_downtime_ns)
{
	struct bh_machine *m = s->m;
	const struct header hello = { .type = HELLO, .magic = MAGIC, .vcpus = m->vm.vcpu_count, .first = m->vm.memory.size };
	int r = send_message(s, &hello, NULL, 0);

	if (r == 0)
		r = send_running(s);
	if (r == 0) {
		r = send_rest(s);
		*ret_downtime_ns = bh_monotonic_ns() - s->stands_since_ns;
		if (r < 0 && !s->stood)
			bh_machine_resume(m);
	}
	if (r < 0)
		bh_machine_log_dirty(m, false, NULL);
	return r;
}

int bh_migration_send(struct bh_machine *m, const struct bh_migration_config *config, struct bh_buf *ret_result, struct bh_error *err)
{
	bh_auto_free uint64_t *dirty = bh_calloc(bh_vm_dirty_words(&m->vm), sizeof *dirty);
	struct sender s = { .m = m, .config = config, .begun_ns = bh_monotonic_ns(), .dirty = dirty, .stood = atomic_load(&m->stands), .err = err };
	int64_t downtime_ns = 0;
	int r;

	if (config->downtime_ms < 1 || config->timeout_ms < 0 || config->bandwidth < 0)
		return bh_error_text(err, EINVAL, "a downtime of at least 1 ms, a time limit and a bandwidth that aren't negative");
	atomic_store(&m->migration.cancelled, false);
	atomic_store(&m->migration.active, true);
	/* The log is emptied here: an incremental snapshot would miss what we take out. */
	memset(m->snapshot_id, 0, sizeof m->snapshot_id);
	r = move(&s, &downtime_ns);
	atomic_store(&m->migration.active, false);
	if (r < 0)
		return r;
	bh_buf_addf(ret_result, ",\"downtime_us\":%lld,\"total_ms\":%lld,\"rounds\":%lu,\"bytes\":%llu", (long long)(downtime_ns / 1000),
		    (long long)((bh_monotonic_ns() - s.begun_ns) / 1000000), atomic_load(&m->migration.rounds), (unsigned long long)s.sent);
	bh_vm_end(&m->vm, BH_VM_MOVED, 0, "moved to another monitor");
	return 0;
}

void bh_migration_cancel(struct bh_machine *m)
{
	atomic_store(&m->migration.cancelled, true);
}

void bh_migration_describe(struct bh_machine *m, struct bh_buf *out)
{
	bh_buf_addf(out, ",\"active\":%s,\"rounds\":%lu,\"sent\":%lu,\"left\":%lu", atomic_load(&m->migration.active) ? "true" : "false",
		    atomic_load(&m->migration.rounds), atomic_load(&m->migration.sent), atomic_load(&m->migration.left));
}

/* --- receiving -------------------------------------------------------------------------------------------------------- */

/* A connection by TCP gives up a silent sender by itself (linux/socket.h). */
static int receive(const struct bh_machine *m, void *bytes, size_t length)
{
	int r = bh_read_all(m->config->incoming_fd, bytes, length);

	return r == -EAGAIN ? -ETIMEDOUT : r;
}

static int receive_pages(struct bh_machine *m, const struct header *header, struct bh_error *err)
{
	uint64_t pages = m->vm.memory.size / BH_GUEST_PAGE, length = (uint64_t)header->count * BH_GUEST_PAGE;
	uint8_t *to = header->count <= PAGES_PER_MESSAGE && header->first < pages ? pages_at(&m->vm.memory, header->first, header->count) : NULL;
	int r = 0;

	if (!to)
		return bh_error_text(err, EINVAL, "pages outside of the machine's memory");
	if (header->type == ZEROES)
		memset(to, 0, length);
	else
		r = receive(m, to, length);
	return r < 0 ? bh_error_set(err, -r, "receive the machine's memory") : 0;
}

static int receive_state(struct bh_machine *m, const struct header *header, struct bh_error *err)
{
	bh_auto_free uint8_t *state = NULL;
	struct bh_state_reader in;
	int r;

	if (header->count > STATE_MAX)
		return bh_error_text(err, EINVAL, "a state of %u bytes", header->count);
	state = bh_malloc(header->count + 1);
	r = receive(m, state, header->count);
	if (r < 0)
		return bh_error_set(err, -r, "receive the machine's state");
	if (bh_crc32c(0, state, header->count) != header->first)
		return bh_error_text(err, EINVAL, "the machine's state was altered on its way");
	in = bh_state_reader(state, header->count);
	return bh_machine_load(m, &in, err);
}

static int check_hello(const struct bh_machine *m, const struct header *header, struct bh_error *err)
{
	if (header->type != HELLO || header->magic != MAGIC)
		return bh_error_text(err, EINVAL, "what is received is no machine");
	if (header->first != m->vm.memory.size || header->vcpus != m->vm.vcpu_count)
		return bh_error_text(err, EINVAL, "the machine has %llu MiB of memory and %u processors, this one %llu and %u",
				     (unsigned long long)(header->first >> 20), header->vcpus, (unsigned long long)(m->vm.memory.size >> 20),
				     m->vm.vcpu_count);
	return 0;
}

static int receive_all(struct bh_machine *m, struct bh_error *err)
{
	struct header header = { 0 };
	int r = receive(m, &header, sizeof header);

	if (r < 0)
		return bh_error_set(err, -r, "receive the machine");
	r = check_hello(m, &header, err);
	while (r == 0) {
		r = receive(m, &header, sizeof header);
		if (r < 0)
			return bh_error_set(err, -r, "receive the machine");
		if (header.type == STATE)
			return receive_state(m, &header, err);
		r = header.type == PAGES || header.type == ZEROES ? receive_pages(m, &header, err) :
								    bh_error_text(err, EINVAL, "a message that isn't known (%u)", header.type);
	}
	return r;
}

int bh_migration_receive(struct bh_machine *m, struct bh_error *err)
{
	struct header answer = { .type = READY }, go = { 0 };
	int r = receive_all(m, err);

	if (r < 0) {
		const char *words = err ? err->message : "";

		answer.type = REFUSED;
		answer.count = (uint32_t)BH_MIN(strlen(words), (size_t)WORDS_MAX);
		if (bh_write_all(m->config->incoming_fd, &answer, sizeof answer) == 0)
			bh_write_all(m->config->incoming_fd, words, answer.count);
		return r;
	}
	r = bh_write_all(m->config->incoming_fd, &answer, sizeof answer);
	if (r == 0)
		r = receive(m, &go, sizeof go);
	if (r < 0 || go.type != GO)
		return bh_error_text(err, ECANCELED, "the other side kept its machine");
	bh_explain("migrate", "received", "yes");
	return 0;
}
