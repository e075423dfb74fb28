/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "vmm/pager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "BHVMSNAP"
#define VERSION 4
#define INCREMENTAL 1u
#define STATE_MAX (64u << 20)
#define FILE_MAX (STATE_MAX + (256u << 20))

struct header {
	char magic[8];
	uint32_t version, flags;
	uint64_t memory, chunk, state_length, chunk_count; /* bytes, bytes, bytes, entries of the table */
	uint8_t id[16], base[16];
	uint32_t crc; /* of the whole file, with this field zero */
	uint32_t reserved;
};
_Static_assert(sizeof(struct header) == 88, "docs/vmm.md has it");

/* --- writing -------------------------------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t length)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

static bool is_dirty(const uint64_t *dirty, uint64_t chunk)
{
	const unsigned pages = BH_SNAPSHOT_CHUNK / BH_GUEST_PAGE;

	return !dirty || (dirty[chunk * pages / 64] >> (chunk * pages % 64) & ((1u << pages) - 1)) != 0;
}

static int write_chunk(int fd, uint64_t number, const uint8_t *bytes, size_t length, struct bh_error *err)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = pwrite(fd, bytes + done, length - done, (off_t)(number * BH_SNAPSHOT_CHUNK + done));

		if (n < 0 && errno != EINTR)
			return bh_error_set(err, errno, "write the snapshot's memory");
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int write_memory(struct bh_machine *m, int fd, const uint64_t *dirty, struct bh_buf *table, struct bh_error *err)
{
	const struct bh_guest_memory *memory = &m->vm.memory;
	int r = 0;

	if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)memory->size) < 0)
		return bh_error_set(err, errno, "size the snapshot's memory file");
	for (uint64_t number = 0; r == 0 && number < bh_snapshot_chunks(memory); number++) {
		struct bh_snapshot_chunk entry = { .kind = BH_CHUNK_UNCHANGED };
		size_t length;
		const uint8_t *bytes = bh_snapshot_chunk_at(memory, number, &length);

		if (is_dirty(dirty, number)) {
			entry.crc = bh_crc32c(0, bytes, length);
			entry.kind = is_zero(bytes, length) ? BH_CHUNK_ZERO : BH_CHUNK_STORED;
		}
		if (entry.kind == BH_CHUNK_STORED)
			r = write_chunk(fd, number, bytes, length, err);
		bh_buf_add(table, &entry, sizeof entry);
	}
	return r;
}

static int write_state(int fd, struct header *header, const struct bh_buf *state, const struct bh_buf *table, struct bh_error *err)
{
	int r;

	header->crc = bh_crc32c(0, header, sizeof *header);
	header->crc = bh_crc32c(header->crc, state->data, state->length);
	header->crc = bh_crc32c(header->crc, table->data, table->length);
	if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return bh_error_set(err, errno, "write the snapshot's state");
	r = bh_write_all(fd, header, sizeof *header);
	if (r == 0)
		r = bh_write_all(fd, state->data, state->length);
	if (r == 0)
		r = bh_write_all(fd, table->data, table->length);
	return r < 0 ? bh_error_set(err, -r, "write the snapshot's state") : 0;
}

int bh_snapshot_write(struct bh_machine *m, int state_fd, int memory_fd, bool incremental, bool track, struct bh_error *err)
{
	static const uint8_t none[16];
	struct header header = { .magic = MAGIC, .version = VERSION, .memory = m->vm.memory.size, .chunk = BH_SNAPSHOT_CHUNK };
	bh_auto_free uint64_t *dirty = bh_calloc(bh_vm_dirty_words(&m->vm), sizeof *dirty);
	bh_auto_buf struct bh_buf state = { 0 }, table = { 0 };
	int r = bh_machine_save(m, &state, err);

	if (r == 0 && incremental && (memcmp(m->snapshot_id, none, sizeof none) == 0 || !atomic_load(&m->vm.memory.dirty)))
		r = bh_error_text(err, EINVAL, "there is no snapshot that an incremental one could build on");
	if (r == 0 && getrandom(header.id, sizeof header.id, 0) != sizeof header.id)
		r = bh_error_set(err, errno, "getrandom");
	if (r == 0 && atomic_load(&m->vm.memory.dirty))
		r = bh_vm_take_dirty(&m->vm, dirty, err);
	if (r == 0)
		r = write_memory(m, memory_fd, incremental ? dirty : NULL, &table, err);
	if (r < 0)
		return r;
	header.flags = incremental ? INCREMENTAL : 0;
	header.state_length = state.length;
	header.chunk_count = bh_snapshot_chunks(&m->vm.memory);
	if (incremental)
		memcpy(header.base, m->snapshot_id, sizeof header.base);
	r = write_state(state_fd, &header, &state, &table, err);
	if (r == 0)
		r = bh_machine_log_dirty(m, track, err);
	/* After a failure the log is emptied already: nothing can build on what was before. */
	memset(m->snapshot_id, 0, sizeof m->snapshot_id);
	if (r == 0 && track)
		memcpy(m->snapshot_id, header.id, sizeof header.id);
	return r;
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

struct opened {
	struct header header;
	struct bh_buf file;
	const uint8_t *state;
	const struct bh_snapshot_chunk *table;
	int memory_fd;
};

static void opened_clear(struct opened *files)
{
	for (size_t i = 0; i < BH_SNAPSHOTS_MAX; i++)
		bh_buf_clear(&files[i].file);
	free(files);
}

static int bad(size_t index, const char *what, struct bh_error *err)
{
	return bh_error_text(err, EINVAL, "snapshot %zu: %s", index + 1, what);
}

static int check_header(const struct bh_machine *m, size_t index, struct opened *o, struct bh_error *err)
{
	struct header *h = &o->header;
	uint32_t crc;

	if (o->file.length < sizeof *h || memcmp(o->file.data, MAGIC, sizeof h->magic) != 0)
		return bad(index, "its state file is none of a machine", err);
	memcpy(h, o->file.data, sizeof *h);
	if (h->version != VERSION)
		return bh_error_text(err, ENOTSUP, "snapshot %zu: its format has version %u, this program reads %d", index + 1, h->version, VERSION);
	crc = h->crc;
	h->crc = 0;
	if (bh_crc32c(bh_crc32c(0, h, sizeof *h), o->file.data + sizeof *h, o->file.length - sizeof *h) != crc)
		return bad(index, "its state file is torn or was altered", err);
	if (h->chunk != BH_SNAPSHOT_CHUNK || h->state_length > STATE_MAX || h->chunk_count != bh_snapshot_chunks(&m->vm.memory) ||
	    o->file.length != sizeof *h + h->state_length + h->chunk_count * sizeof(struct bh_snapshot_chunk))
		return h->memory == m->vm.memory.size ?
			       bad(index, "its state file is damaged", err) :
			       bh_error_text(err, EINVAL, "snapshot %zu: the saved machine has %llu MiB of memory, this one %llu", index + 1,
					     (unsigned long long)(h->memory >> 20), (unsigned long long)(m->vm.memory.size >> 20));
	o->state = (const uint8_t *)o->file.data + sizeof *h;
	o->table = (const struct bh_snapshot_chunk *)(o->state + h->state_length);
	return 0;
}

static int open_snapshot(struct bh_machine *m, size_t index, struct opened *all, struct bh_error *err)
{
	const struct bh_snapshot_files *files = &m->config->restore[index];
	struct opened *o = &all[index];
	struct stat st;
	int r = bh_read_fd(files->state_fd, FILE_MAX, &o->file);

	if (r < 0)
		return bh_error_set(err, -r, "read the state of snapshot %zu", index + 1);
	r = check_header(m, index, o, err);
	if (r < 0)
		return r;
	o->memory_fd = files->memory_fd;
	if (fstat(files->memory_fd, &st) < 0 || (uint64_t)st.st_size != m->vm.memory.size)
		return bad(index, "its memory file is torn", err);
	if ((o->header.flags & INCREMENTAL) != (index ? INCREMENTAL : 0))
		return bad(index, index ? "only the first one is full" : "it is incremental: the full one before it is missing", err);
	if (index && memcmp(o->header.base, all[index - 1].header.id, sizeof o->header.base) != 0)
		return bad(index, "it doesn't build on the one before it", err);
	return 0;
}

/* For each chunk the newest file that has it. */
static int find_sources(const struct bh_machine *m, const struct opened *all, struct bh_snapshot_source *sources, struct bh_error *err)
{
	for (uint64_t number = 0; number < bh_snapshot_chunks(&m->vm.memory); number++) {
		size_t i = m->config->restore_count;
		struct bh_snapshot_chunk entry;

		do
			memcpy(&entry, &all[--i].table[number], sizeof entry);
		while (entry.kind == BH_CHUNK_UNCHANGED && i > 0);
		if (entry.kind != BH_CHUNK_STORED && entry.kind != BH_CHUNK_ZERO)
			return bad(i, "its table is damaged", err);
		sources[number] = (struct bh_snapshot_source){ .fd = entry.kind == BH_CHUNK_ZERO ? -1 : all[i].memory_fd, .crc = entry.crc };
	}
	return 0;
}

int bh_snapshot_restore(struct bh_machine *m, struct bh_error *err)
{
	size_t count = m->config->restore_count;
	__attribute__((cleanup(bh_free_ptr))) struct bh_snapshot_source *sources = bh_calloc(bh_snapshot_chunks(&m->vm.memory), sizeof *sources);
	struct opened *all = bh_calloc(BH_SNAPSHOTS_MAX, sizeof *all);
	struct bh_state_reader in;
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = open_snapshot(m, i, all, err);
	if (r == 0)
		r = find_sources(m, all, sources, err);
	/* Memory first: loading the devices may look at it. */
	if (r == 0)
		r = m->config->userfault_fd >= 0 ? bh_pager_make(m, BH_TAKE_PTR(sources), &m->pager, err) : bh_snapshot_load_all(m, sources, err);
	if (r == 0) {
		in = bh_state_reader(all[count - 1].state, all[count - 1].header.state_length);
		r = bh_machine_load(m, &in, err);
	}
	opened_clear(all);
	if (r == 0)
		bh_explain("restore", "memory", m->pager ? "when needed" : "loaded");
	return r;
}
