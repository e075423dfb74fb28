/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first serial port, a 16550 (PC16550D data sheet; register numbers and bits as in <linux/serial_reg.h>).
 *
 * The transmitter is as fast as its reader: a byte goes at once into a ring that the machine's owner empties, so a vcpu never waits
 * for a terminal. While nobody reads and the ring is full, bytes are lost, as on a line without flow control. The receiver has a
 * FIFO of 16 bytes; what doesn't fit stays with the caller.
 */
#include "vmm/devices/devices.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PORT 0x3f8
#define LINE 4
#define INPUT_SIZE 16
#define OUTPUT_SIZE (64u << 10) /* a power of two */

struct bh_serial {
	struct bh_vm *vm;
	pthread_mutex_t lock; /* of all below; never held while anything waits */
	int event_fd;
	uint8_t interrupts, line_control, modem_control, scratch, fifo_control;
	uint8_t divisor[2];
	bool transmitter_empty; /* an interrupt that hasn't been told of */
	bool line_is_up;
	bool by_interrupt; /* input waits until its interrupt is asked for: drivers throw away what came before */
	bool input_waits;  /* the owner has more */
	uint8_t input[INPUT_SIZE];
	unsigned input_count;
	uint8_t *output;
	size_t output_read, output_write; /* count on, modulo OUTPUT_SIZE */
};

/* --- called with the lock held -------------------------------------------------------------------------------------- */

static uint8_t interrupt_id(const struct bh_serial *s)
{
	if (s->interrupts & UART_IER_RDI && s->input_count)
		return UART_IIR_RDI;
	if (s->interrupts & UART_IER_THRI && s->transmitter_empty)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

static void receive(struct bh_serial *s, uint8_t byte)
{
	if (s->input_count < INPUT_SIZE)
		s->input[s->input_count++] = byte;
}

static void tell_owner(struct bh_serial *s)
{
	uint64_t one = 1;

	(void)!write(s->event_fd, &one, sizeof one);
}

/* Looped back, the receiver hears the transmitter alone. Interrupts are really on only with OUT2: without it drivers look for what
 * kind of chip it is. */
static bool takes_input(const struct bh_serial *s)
{
	bool interrupts = s->interrupts & UART_IER_RDI && s->modem_control & UART_MCR_OUT2;

	return s->input_count < INPUT_SIZE && !(s->modem_control & UART_MCR_LOOP) && (!s->by_interrupt || interrupts);
}

static void transmit(struct bh_serial *s, uint8_t byte)
{
	s->transmitter_empty = true;
	if (s->modem_control & UART_MCR_LOOP) {
		receive(s, byte);
		return;
	}
	if (s->output_write - s->output_read == OUTPUT_SIZE)
		return;
	s->output[s->output_write++ % OUTPUT_SIZE] = byte;
	/* One event for all that is there until it has been read. */
	if (s->output_write - s->output_read == 1)
		tell_owner(s);
}

/* The line follows the state; OUT2 gates it on a PC. */
static void update_line(struct bh_serial *s)
{
	bool up = interrupt_id(s) != UART_IIR_NO_INT && s->modem_control & UART_MCR_OUT2;

	if (s->input_waits && s->input_count == 0 && takes_input(s)) {
		s->input_waits = false;
		tell_owner(s);
	}
	if (up != s->line_is_up)
		bh_vm_set_irq(s->vm, LINE, up);
	s->line_is_up = up;
}

static uint8_t take_input(struct bh_serial *s)
{
	uint8_t byte = s->input[0];

	if (s->input_count == 0)
		return 0;
	s->input_count--;
	for (unsigned i = 0; i < s->input_count; i++)
		s->input[i] = s->input[i + 1];
	return byte;
}

static uint8_t modem_status(const struct bh_serial *s)
{
	uint8_t status = 0;

	if (!(s->modem_control & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	/* In loopback the outputs are wired to the inputs. */
	status |= s->modem_control & UART_MCR_RTS ? UART_MSR_CTS : 0;
	status |= s->modem_control & UART_MCR_DTR ? UART_MSR_DSR : 0;
	status |= s->modem_control & UART_MCR_OUT1 ? UART_MSR_RI : 0;
	status |= s->modem_control & UART_MCR_OUT2 ? UART_MSR_DCD : 0;
	return status;
}

static uint8_t read_register(struct bh_serial *s, unsigned number)
{
	bool divisor = s->line_control & UART_LCR_DLAB;
	uint8_t id;

	switch (number) {
	case UART_RX:
		return divisor ? s->divisor[0] : take_input(s);
	case UART_IER:
		return divisor ? s->divisor[1] : s->interrupts;
	case UART_IIR:
		id = interrupt_id(s);
		if (id == UART_IIR_THRI)
			s->transmitter_empty = false;
		return id | (s->fifo_control & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
	case UART_LCR:
		return s->line_control;
	case UART_MCR:
		return s->modem_control;
	case UART_LSR:
		return UART_LSR_TEMT | UART_LSR_THRE | (s->input_count ? UART_LSR_DR : 0);
	case UART_MSR:
		return modem_status(s);
	default:
		return s->scratch;
	}
}

static void write_register(struct bh_serial *s, unsigned number, uint8_t value)
{
	bool divisor = s->line_control & UART_LCR_DLAB;

	switch (number) {
	case UART_TX:
		if (divisor)
			s->divisor[0] = value;
		else
			transmit(s, value);
		break;
	case UART_IER:
		if (divisor) {
			s->divisor[1] = value;
			break;
		}
		/* Asking for it when the transmitter is empty gives one at once. */
		if (value & ~s->interrupts & UART_IER_THRI)
			s->transmitter_empty = true;
		s->interrupts = value & 0x0f;
		break;
	case UART_FCR:
		s->fifo_control = value;
		if (value & UART_FCR_CLEAR_RCVR)
			s->input_count = 0;
		break;
	case UART_LCR:
		s->line_control = value;
		break;
	case UART_MCR:
		s->modem_control = value & 0x1f;
		break;
	case UART_SCR:
		s->scratch = value;
		break;
	default:
		break;
	}
}

/* --- the ports ------------------------------------------------------------------------------------------------------ */

/* Wider accesses are several narrow ones, as on the bus of a PC. */
static uint64_t read_ports(void *device, uint64_t offset, unsigned size)
{
	struct bh_serial *s = device;
	uint64_t value = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read_register(s, (unsigned)offset + i) << (8 * i);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return value;
}

static void write_ports(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct bh_serial *s = device;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < size; i++)
		write_register(s, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

/* --- the owner's side ----------------------------------------------------------------------------------------------- */

int bh_serial_make(struct bh_vm *vm, bool by_interrupt, struct bh_serial **ret_serial, struct bh_error *err)
{
	struct bh_serial *s = bh_calloc(1, sizeof *s);
	const struct bh_bus_range range = { PORT, 8, "serial", s, read_ports, write_ports };
	int r;

	*s = (struct bh_serial){
		.vm = vm, .by_interrupt = by_interrupt, .lock = PTHREAD_MUTEX_INITIALIZER, .divisor = { 12, 0 }, .output = bh_malloc(OUTPUT_SIZE)
	};
	s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->event_fd < 0 ? bh_error_set(err, errno, "make an eventfd") : bh_bus_add(&vm->ports, &range, err);
	if (r < 0)
		bh_serial_free(s);
	else
		*ret_serial = s;
	return r;
}

void bh_serial_free(struct bh_serial *s)
{
	if (!s)
		return;
	bh_close_fd(&s->event_fd);
	free(s->output);
	free(s);
}

int bh_serial_event_fd(const struct bh_serial *s)
{
	return s->event_fd;
}

int bh_serial_flush(struct bh_serial *s, int fd)
{
	uint64_t events;

	(void)!read(s->event_fd, &events, sizeof events);
	for (;;) {
		size_t from, length;
		ssize_t written;

		pthread_mutex_lock(&s->lock);
		from = s->output_read % OUTPUT_SIZE;
		length = BH_MIN(s->output_write - s->output_read, OUTPUT_SIZE - from);
		pthread_mutex_unlock(&s->lock);
		if (length == 0)
			return 0;
		/* Nobody else reads, and what is not yet read isn't written over. */
		written = write(fd, s->output + from, length);
		if (written < 0 && errno != EINTR)
			return -errno;
		pthread_mutex_lock(&s->lock);
		s->output_read += written > 0 ? (size_t)written : 0;
		pthread_mutex_unlock(&s->lock);
	}
}

size_t bh_serial_input(struct bh_serial *s, const void *bytes, size_t length)
{
	size_t taken = 0;

	pthread_mutex_lock(&s->lock);
	while (taken < length && takes_input(s))
		receive(s, ((const uint8_t *)bytes)[taken++]);
	s->input_waits = taken < length;
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return taken;
}

void bh_serial_save(struct bh_serial *s, struct bh_buf *out)
{
	const uint8_t registers[] = { s->interrupts, s->line_control, s->modem_control,     s->scratch,    s->fifo_control,
				      s->divisor[0], s->divisor[1],   s->transmitter_empty, s->line_is_up, (uint8_t)s->input_count };

	pthread_mutex_lock(&s->lock);
	bh_state_put_bytes(out, registers, sizeof registers);
	bh_state_put_bytes(out, s->input, sizeof s->input);
	pthread_mutex_unlock(&s->lock);
}

void bh_serial_load(struct bh_serial *s, struct bh_state_reader *in)
{
	uint8_t registers[10] = { 0 };

	bh_state_get_exactly(in, registers, sizeof registers);
	bh_state_get_exactly(in, s->input, sizeof s->input);
	s->interrupts = registers[0] & 0x0f;
	s->line_control = registers[1];
	s->modem_control = registers[2] & 0x1f;
	s->scratch = registers[3];
	s->fifo_control = registers[4];
	s->divisor[0] = registers[5];
	s->divisor[1] = registers[6];
	s->transmitter_empty = registers[7];
	s->line_is_up = registers[8];
	s->input_count = BH_MIN(registers[9], (uint8_t)INPUT_SIZE);
	/* Whoever has input for it tries again. */
	tell_owner(s);
}
