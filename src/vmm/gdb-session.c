/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gdb-session.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

#define SIGNAL_INTERRUPT 2
#define SIGNAL_TRAP 5
#define OUT_MAX (1u << 20)
#define MEMORY_MAX (BH_GDB_PACKET_MAX / 2) /* bytes of one packet */
#define FEATURES "PacketSize=1000;qXfer:features:read+;vContSupported+;swbreak+;hwbreak+;QStartNoAckMode+"

#define BAD "E01"        /* the packet can't be read */
#define IMPOSSIBLE "E0e" /* the machine can't */
#define STILL_RUNS "E10"

void bh_gdb_begin(struct bh_gdb_session *s, const struct bh_gdb_target *target, void *context)
{
	*s = (struct bh_gdb_session){ .target = target, .context = context, .step_thread = -1, .stop = { .reason = BH_GDB_BY_TRAP } };
}

void bh_gdb_end(struct bh_gdb_session *s)
{
	bh_buf_clear(&s->out);
	bh_buf_clear(&s->last);
}

static void answer(struct bh_gdb_session *s, const char *content)
{
	bh_buf_reset(&s->last);
	bh_gdb_frame(&s->last, content);
	bh_buf_add(&s->out, s->last.data, s->last.length);
}

static void answer_if(struct bh_gdb_session *s, bool done)
{
	answer(s, done ? "OK" : IMPOSSIBLE);
}

/* --- threads and stops ------------------------------------------------------------------------------------------------------ */

/* A thread's number as GDB has it: -1 all, 0 any, else one of ours. False: there is none such. */
static bool get_thread(struct bh_gdb_session *s, const char **at, int *ret_thread)
{
	uint64_t number;

	if (bh_gdb_get_char(at, '-')) {
		*ret_thread = -1;
		return bh_gdb_get_char(at, '1');
	}
	if (!bh_gdb_get_number(at, &number) || number > s->target->threads(s->context))
		return false;
	*ret_thread = number == 0 ? (int)s->thread : (int)number - 1;
	return true;
}

static void answer_stop(struct bh_gdb_session *s)
{
	static const char *const watches[] = { [BH_GDB_WATCH_WRITE] = "watch", [BH_GDB_WATCH_READ] = "rwatch", [BH_GDB_WATCH_ACCESS] = "awatch" };
	const struct bh_gdb_stop *stop = &s->stop;
	bh_auto_buf struct bh_buf text = { 0 };

	bh_buf_addf(&text, "T%02xthread:%x;", stop->reason == BH_GDB_BY_INTERRUPT ? SIGNAL_INTERRUPT : SIGNAL_TRAP, stop->thread + 1);
	if (stop->reason == BH_GDB_BY_BREAKPOINT && stop->breakpoint >= BH_GDB_WATCH_WRITE)
		bh_buf_addf(&text, "%s:%llx;", watches[stop->breakpoint], (unsigned long long)stop->address);
	else if (stop->reason == BH_GDB_BY_BREAKPOINT && stop->breakpoint == BH_GDB_SOFTWARE && s->knows_swbreak)
		bh_buf_adds(&text, "swbreak:;");
	else if (stop->reason == BH_GDB_BY_BREAKPOINT && stop->breakpoint == BH_GDB_HARDWARE && s->knows_hwbreak)
		bh_buf_adds(&text, "hwbreak:;");
	answer(s, text.data);
}

void bh_gdb_stopped(struct bh_gdb_session *s, const struct bh_gdb_stop *stop)
{
	if (!s->running)
		return;
	s->running = false;
	s->stop = *stop;
	s->thread = stop->thread;
	answer_stop(s);
}

void bh_gdb_exited(struct bh_gdb_session *s, int status)
{
	char text[8];

	if (!s->running)
		return;
	snprintf(text, sizeof text, "W%02x", (unsigned)status & 0xff);
	answer(s, text);
	s->running = false;
	s->ended = true;
}

static void resume(struct bh_gdb_session *s, const enum bh_gdb_action *actions)
{
	s->running = true;
	s->target->resume(s->context, actions);
}

/* --- packets: each gets what follows its name -------------------------------------------------------------------------------- */

static void take_query_stop(struct bh_gdb_session *s, const char *at)
{
	(void)at;
	answer_stop(s);
}

static void take_read_registers(struct bh_gdb_session *s, const char *at)
{
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_gdb_registers registers;

	(void)at;
	if (!s->target->read_registers(s->context, s->thread, &registers)) {
		answer(s, IMPOSSIBLE);
		return;
	}
	bh_gdb_put_bytes(&text, &registers, sizeof registers);
	answer(s, text.data);
}

static void take_write_registers(struct bh_gdb_session *s, const char *at)
{
	struct bh_gdb_registers registers;

	if (!bh_gdb_get_bytes(&at, &registers, sizeof registers) || *at)
		answer(s, BAD);
	else
		answer_if(s, s->target->write_registers(s->context, s->thread, &registers));
}

static void take_read_register(struct bh_gdb_session *s, const char *at)
{
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_gdb_registers registers;
	size_t offset, size;
	uint64_t number;

	if (!bh_gdb_get_number(&at, &number) || *at || !bh_gdb_register_place(number, &offset, &size)) {
		answer(s, BAD);
	} else if (!s->target->read_registers(s->context, s->thread, &registers)) {
		answer(s, IMPOSSIBLE);
	} else {
		bh_gdb_put_bytes(&text, (const uint8_t *)&registers + offset, size);
		answer(s, text.data);
	}
}

static void take_write_register(struct bh_gdb_session *s, const char *at)
{
	struct bh_gdb_registers registers;
	size_t offset, size;
	uint64_t number;

	if (!bh_gdb_get_number(&at, &number) || !bh_gdb_get_char(&at, '=') || !bh_gdb_register_place(number, &offset, &size)) {
		answer(s, BAD);
	} else if (!s->target->read_registers(s->context, s->thread, &registers)) {
		answer(s, IMPOSSIBLE);
	} else if (!bh_gdb_get_bytes(&at, (uint8_t *)&registers + offset, size) || *at) {
		answer(s, BAD);
	} else {
		answer_if(s, s->target->write_registers(s->context, s->thread, &registers));
	}
}

static bool get_range(const char **at, uint64_t *ret_address, uint64_t *ret_length)
{
	return bh_gdb_get_number(at, ret_address) && bh_gdb_get_char(at, ',') && bh_gdb_get_number(at, ret_length);
}

static void take_read_memory(struct bh_gdb_session *s, const char *at)
{
	bh_auto_buf struct bh_buf text = { 0 };
	uint8_t bytes[MEMORY_MAX];
	uint64_t address, length;
	size_t count;

	if (!get_range(&at, &address, &length) || *at) {
		answer(s, BAD);
		return;
	}
	/* What is asked for beyond a packet, or isn't there behind what is, is left out. */
	count = s->target->read_memory(s->context, s->thread, address, bytes, (size_t)BH_MIN(length, (uint64_t)sizeof bytes));
	bh_gdb_put_bytes(&text, bytes, count);
	answer(s, count || length == 0 ? (text.data ? text.data : "") : IMPOSSIBLE);
}

static void take_write_memory(struct bh_gdb_session *s, const char *at)
{
	uint8_t bytes[MEMORY_MAX];
	uint64_t address, length;

	if (!get_range(&at, &address, &length) || !bh_gdb_get_char(&at, ':') || length > sizeof bytes ||
	    !bh_gdb_get_bytes(&at, bytes, (size_t)length) || *at)
		answer(s, BAD);
	else
		answer_if(s, s->target->write_memory(s->context, s->thread, address, bytes, (size_t)length));
}

static void take_set_thread(struct bh_gdb_session *s, const char *at)
{
	char what = *at;
	int thread;

	if (what)
		at++;
	if ((what != 'g' && what != 'c') || !get_thread(s, &at, &thread) || *at) {
		answer(s, BAD);
		return;
	}
	if (what == 'c')
		s->step_thread = thread;
	else if (thread >= 0)
		s->thread = (unsigned)thread;
	answer(s, "OK");
}

static void take_thread_alive(struct bh_gdb_session *s, const char *at)
{
	int thread;

	answer(s, get_thread(s, &at, &thread) && !*at ? "OK" : BAD);
}

/* An address may follow. */
static void go_on(struct bh_gdb_session *s, const char *at, enum bh_gdb_action action)
{
	enum bh_gdb_action actions[BH_GDB_THREADS_MAX] = { 0 };
	unsigned count = s->target->threads(s->context);
	struct bh_gdb_registers registers;
	bool elsewhere = *at;
	uint64_t address;

	if (elsewhere && (!bh_gdb_get_number(&at, &address) || *at)) {
		answer(s, BAD);
		return;
	}
	if (elsewhere && s->target->read_registers(s->context, s->thread, &registers)) {
		registers.rip = address;
		s->target->write_registers(s->context, s->thread, &registers);
	}
	for (unsigned i = 0; i < count && i < BH_GDB_THREADS_MAX; i++)
		actions[i] = action == BH_GDB_STEP ? BH_GDB_STAY : BH_GDB_CONTINUE;
	if (action == BH_GDB_STEP)
		actions[s->step_thread >= 0 ? (unsigned)s->step_thread : s->thread] = BH_GDB_STEP;
	resume(s, actions);
}

static void take_continue(struct bh_gdb_session *s, const char *at)
{
	go_on(s, at, BH_GDB_CONTINUE);
}

static void take_step(struct bh_gdb_session *s, const char *at)
{
	go_on(s, at, BH_GDB_STEP);
}

static bool skip_signal(const char **at)
{
	uint8_t signal;

	return bh_gdb_get_bytes(at, &signal, 1);
}

/* ACTION[:THREAD] after each semicolon; of those that name a thread the leftmost counts. */
static bool parse_actions(struct bh_gdb_session *s, const char *at, enum bh_gdb_action actions[BH_GDB_THREADS_MAX])
{
	unsigned count = s->target->threads(s->context);
	bool given[BH_GDB_THREADS_MAX] = { 0 };

	while (bh_gdb_get_char(&at, ';')) {
		char name = *at;
		enum bh_gdb_action action = name == 's' || name == 'S' ? BH_GDB_STEP : BH_GDB_CONTINUE;
		int thread = -1;

		if (!name || !strchr("cCsS", name))
			return false;
		at++;
		if ((name == 'C' || name == 'S') && !skip_signal(&at))
			return false;
		if (bh_gdb_get_char(&at, ':') && !get_thread(s, &at, &thread))
			return false;
		for (unsigned i = 0; i < count && i < BH_GDB_THREADS_MAX; i++) {
			if (given[i] || (thread >= 0 && (unsigned)thread != i))
				continue;
			given[i] = true;
			actions[i] = action;
		}
	}
	return !*at;
}

static void take_actions(struct bh_gdb_session *s, const char *at)
{
	enum bh_gdb_action actions[BH_GDB_THREADS_MAX] = { 0 };
	bool any = false;

	if (!parse_actions(s, at, actions)) {
		answer(s, BAD);
		return;
	}
	for (unsigned i = 0; i < BH_GDB_THREADS_MAX; i++)
		any = any || actions[i] != BH_GDB_STAY;
	if (any)
		resume(s, actions);
	else
		answer(s, BAD);
}

static void set_breakpoint(struct bh_gdb_session *s, const char *at, bool on)
{
	uint64_t kind, address, length;

	if (!bh_gdb_get_number(&at, &kind) || kind >= BH_GDB_BREAKPOINT_KINDS || !bh_gdb_get_char(&at, ',') || !get_range(&at, &address, &length) || *at)
		answer(s, BAD);
	else
		answer_if(s, s->target->set_breakpoint(s->context, s->thread, (enum bh_gdb_breakpoint)kind, address, length, on));
}

static void take_insert(struct bh_gdb_session *s, const char *at)
{
	set_breakpoint(s, at, true);
}

static void take_remove(struct bh_gdb_session *s, const char *at)
{
	set_breakpoint(s, at, false);
}

static void take_detach(struct bh_gdb_session *s, const char *at)
{
	(void)at;
	s->target->detach(s->context);
	answer(s, "OK");
	s->ended = true;
}

static void take_kill(struct bh_gdb_session *s, const char *at)
{
	(void)at;
	s->target->kill(s->context);
	s->ended = true;
}

static void take_kill_process(struct bh_gdb_session *s, const char *at)
{
	take_kill(s, at);
	answer(s, "OK");
}

static void take_supported(struct bh_gdb_session *s, const char *at)
{
	s->knows_swbreak = strstr(at, "swbreak+") != NULL;
	s->knows_hwbreak = strstr(at, "hwbreak+") != NULL;
	answer(s, FEATURES);
}

static void take_description(struct bh_gdb_session *s, const char *at)
{
	const char *whole = bh_gdb_description();
	size_t size = strlen(whole);
	bh_auto_buf struct bh_buf text = { 0 };
	uint64_t offset, length;

	if (!get_range(&at, &offset, &length) || *at || offset > size) {
		answer(s, BAD);
		return;
	}
	length = BH_MIN(length, (uint64_t)BH_GDB_PACKET_MAX - 1);
	bh_buf_addc(&text, length < size - offset ? 'm' : 'l');
	bh_buf_add(&text, whole + offset, (size_t)BH_MIN(length, (uint64_t)size - offset));
	answer(s, text.data);
}

static void take_no_acknowledgements(struct bh_gdb_session *s, const char *at)
{
	(void)at;
	answer(s, "OK");
	s->no_acknowledgements = true;
}

static void take_current_thread(struct bh_gdb_session *s, const char *at)
{
	char text[16];

	(void)at;
	snprintf(text, sizeof text, "QC%x", s->thread + 1);
	answer(s, text);
}

static void take_threads(struct bh_gdb_session *s, const char *at)
{
	bh_auto_buf struct bh_buf text = { 0 };

	(void)at;
	for (unsigned i = 0; i < s->target->threads(s->context); i++)
		bh_buf_addf(&text, "%c%x", i ? ',' : 'm', i + 1);
	answer(s, text.data ? text.data : "l");
}

static void take_more_threads(struct bh_gdb_session *s, const char *at)
{
	(void)at;
	answer(s, "l");
}

static void take_thread_words(struct bh_gdb_session *s, const char *at)
{
	bh_auto_buf struct bh_buf text = { 0 };
	char words[24];
	int thread;

	if (!get_thread(s, &at, &thread) || *at || thread < 0) {
		answer(s, BAD);
		return;
	}
	snprintf(words, sizeof words, "processor %d", thread);
	bh_gdb_put_bytes(&text, words, strlen(words));
	answer(s, text.data);
}

static void take_attached(struct bh_gdb_session *s, const char *at)
{
	(void)at;
	answer(s, "1");
}

static void take_which_actions(struct bh_gdb_session *s, const char *at)
{
	(void)at;
	answer(s, "vCont;c;C;s;S");
}

/* The longer name first where one begins another. */
static const struct {
	const char *name;
	bool alone; /* nothing but a separator of its own may follow */
	void (*take)(struct bh_gdb_session *session, const char *rest);
} packets[] = {
	{ "qSupported", false, take_supported },
	{ "qXfer:features:read:target.xml:", false, take_description },
	{ "qfThreadInfo", true, take_threads },
	{ "qsThreadInfo", true, take_more_threads },
	{ "qThreadExtraInfo,", false, take_thread_words },
	{ "qAttached", false, take_attached },
	{ "qC", true, take_current_thread },
	{ "QStartNoAckMode", true, take_no_acknowledgements },
	{ "vCont?", true, take_which_actions },
	{ "vCont", false, take_actions },
	{ "vKill;", false, take_kill_process },
	{ "?", true, take_query_stop },
	{ "g", true, take_read_registers },
	{ "G", false, take_write_registers },
	{ "p", false, take_read_register },
	{ "P", false, take_write_register },
	{ "m", false, take_read_memory },
	{ "M", false, take_write_memory },
	{ "H", false, take_set_thread },
	{ "T", false, take_thread_alive },
	{ "c", false, take_continue },
	{ "s", false, take_step },
	{ "Z", false, take_insert },
	{ "z", false, take_remove },
	{ "D", false, take_detach },
	{ "k", true, take_kill },
};

static void take_packet(struct bh_gdb_session *s)
{
	const char *content = s->parser.content;

	for (size_t i = 0; i < BH_ARRAY_SIZE(packets); i++) {
		size_t length = strlen(packets[i].name);

		if (strncmp(content, packets[i].name, length) != 0 || (packets[i].alone && content[length]))
			continue;
		if (s->running && packets[i].take != take_kill && packets[i].take != take_detach)
			answer(s, STILL_RUNS);
		else
			packets[i].take(s, content + length);
		return;
	}
	/* What isn't known is answered by nothing. */
	answer(s, "");
}

void bh_gdb_feed(struct bh_gdb_session *s, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < length && !s->ended; i++) {
		/* A debugger waits for its answers. */
		s->ended = s->out.length > OUT_MAX;
		switch (bh_gdb_parse(&s->parser, at[i])) {
		case BH_GDB_PACKET:
			if (!s->no_acknowledgements)
				bh_buf_addc(&s->out, '+');
			take_packet(s);
			break;
		case BH_GDB_DAMAGED:
			if (!s->no_acknowledgements)
				bh_buf_addc(&s->out, '-');
			break;
		case BH_GDB_REPEAT:
			if (!s->no_acknowledgements)
				bh_buf_add(&s->out, s->last.data, s->last.length);
			break;
		case BH_GDB_INTERRUPT:
			if (s->running)
				s->target->interrupt(s->context);
			break;
		case BH_GDB_NOTHING:
			break;
		}
	}
}
