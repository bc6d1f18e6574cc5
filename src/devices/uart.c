/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UART-1: the interrupt line is high exactly while IER enables a condition
 *	that is present and MCR.OUT2 is set (the PC's gate to the IRQ).
 *
 * Divisor and frame format are kept and have no effect: the line is as fast
 * as its reader.  Parity, framing and break errors do not occur.
 *
 * Source: National Semiconductor PC16550D data sheet.
 */
#include "devices/uart.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/lock.h"

#define UART_FIFO 16
/* So many reads of the line status with no byte sent between them are made by
 * one who waits for input, not by a driver that probes or sends. */
#define UART_POLLS 64

enum { UART_DATA, UART_IER, UART_IIR, UART_LCR, UART_MCR, UART_LSR, UART_MSR,
	UART_SCR };
#define UART_FCR UART_IIR /* written */

#define UART_IER_RX 0x01
#define UART_IER_TX 0x02
#define UART_IER_MODEM 0x08

#define UART_IIR_NONE 0x01
#define UART_IIR_MODEM 0x00
#define UART_IIR_TX 0x02
#define UART_IIR_RX 0x04
#define UART_IIR_TIMEOUT 0x0c
#define UART_IIR_FIFO 0xc0

#define UART_FCR_ENABLE 0x01
#define UART_FCR_CLEAR_RX 0x02

#define UART_LCR_DLAB 0x80

#define UART_MCR_DTR 0x01
#define UART_MCR_RTS 0x02
#define UART_MCR_OUT1 0x04
#define UART_MCR_OUT2 0x08
#define UART_MCR_LOOP 0x10

#define UART_LSR_RX 0x01
#define UART_LSR_OVERRUN 0x02
#define UART_LSR_TX 0x60 /* holding register and shifter empty */

#define UART_MSR_CTS 0x10
#define UART_MSR_DSR 0x20
#define UART_MSR_RI 0x40
#define UART_MSR_DCD 0x80

struct uart {
	const struct uart_ops *ops;
	void *arg;
	struct lock lock; /* all below */
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	uint8_t msr_delta;
	uint8_t rx[UART_FIFO];
	unsigned rx_at, rx_len;
	bool overrun;
	unsigned polls; /* of the line status since a byte was sent */
	bool tx_event; /* the transmitter became empty, not yet reported */
	int line;
};

static unsigned
uart_capacity(const struct uart *u)
{
	return (u->fcr & UART_FCR_ENABLE) != 0 ? UART_FIFO : 1;
}

static unsigned
uart_trigger(const struct uart *u)
{
	static const uint8_t level[4] = { 1, 4, 8, 14 };

	return (u->fcr & UART_FCR_ENABLE) != 0 ? level[u->fcr >> 6] : 1;
}

/* The condition of highest priority that is enabled and present. */
static uint8_t
uart_cause(const struct uart *u)
{
	/* Below the trigger level a line at rest reports a time-out; ours is
	 * at rest at once. */
	if ((u->ier & UART_IER_RX) != 0 && u->rx_len != 0)
		return u->rx_len >= uart_trigger(u) ? UART_IIR_RX :
						      UART_IIR_TIMEOUT;
	if ((u->ier & UART_IER_TX) != 0 && u->tx_event)
		return UART_IIR_TX;
	if ((u->ier & UART_IER_MODEM) != 0 && u->msr_delta != 0)
		return UART_IIR_MODEM;
	return UART_IIR_NONE;
}

static void
uart_update(struct uart *u)
{
	int line = uart_cause(u) != UART_IIR_NONE &&
	    (u->mcr & (UART_MCR_OUT2 | UART_MCR_LOOP)) == UART_MCR_OUT2;

	if (line == u->line)
		return;
	u->line = line;
	u->ops->irq(u->arg, line);
}

static uint8_t
uart_modem(const struct uart *u)
{
	uint8_t s = 0;

	if ((u->mcr & UART_MCR_LOOP) == 0) /* somebody listens, always */
		return UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD;
	if ((u->mcr & UART_MCR_RTS) != 0)
		s |= UART_MSR_CTS;
	if ((u->mcr & UART_MCR_DTR) != 0)
		s |= UART_MSR_DSR;
	if ((u->mcr & UART_MCR_OUT1) != 0)
		s |= UART_MSR_RI;
	if ((u->mcr & UART_MCR_OUT2) != 0)
		s |= UART_MSR_DCD;
	return s;
}

static void
uart_push(struct uart *u, uint8_t b)
{
	if (u->rx_len == uart_capacity(u)) {
		u->overrun = true;
		return;
	}
	u->rx[(u->rx_at + u->rx_len++) % UART_FIFO] = b;
}

struct uart *
uart_create(const struct uart_ops *ops, void *arg)
{
	struct uart *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return NULL;
	u->ops = ops;
	u->arg = arg;
	lock_init(&u->lock, "uart", LOCK_RANK_DEVICE);
	return u;
}

void
uart_destroy(struct uart *u)
{
	lock_fini(&u->lock);
	free(u);
}

/* => *roomp: input that waited may come now */
static uint8_t
uart_read_locked(struct uart *u, unsigned reg, bool *roomp)
{
	uint8_t v;

	switch (reg) {
	case UART_DATA:
		if ((u->lcr & UART_LCR_DLAB) != 0)
			return u->dll;
		if (u->rx_len == 0)
			return 0;
		v = u->rx[u->rx_at];
		u->rx_at = (u->rx_at + 1) % UART_FIFO;
		*roomp = --u->rx_len == 0;
		return v;
	case UART_IER:
		return (u->lcr & UART_LCR_DLAB) != 0 ? u->dlm : u->ier;
	case UART_IIR:
		v = uart_cause(u);
		if (v == UART_IIR_TX)
			u->tx_event = false;
		if ((u->fcr & UART_FCR_ENABLE) != 0)
			v |= UART_IIR_FIFO;
		return v;
	case UART_LCR:
		return u->lcr;
	case UART_MCR:
		return u->mcr;
	case UART_LSR:
		v = UART_LSR_TX | (u->rx_len != 0 ? UART_LSR_RX : 0) |
		    (u->overrun ? UART_LSR_OVERRUN : 0);
		u->overrun = false;
		if (u->polls < UART_POLLS)
			*roomp = ++u->polls == UART_POLLS;
		return v;
	case UART_MSR:
		v = uart_modem(u) | u->msr_delta;
		u->msr_delta = 0;
		return v;
	default:
		return u->scr;
	}
}

uint8_t
uart_read(struct uart *u, unsigned reg)
{
	bool room = false;
	uint8_t v;

	lock_acquire(&u->lock);
	v = uart_read_locked(u, reg & 7, &room);
	uart_update(u);
	lock_release(&u->lock);
	if (room)
		u->ops->room(u->arg);
	return v;
}

static void
uart_write_mcr(struct uart *u, uint8_t val)
{
	uint8_t before = uart_modem(u), changed;

	u->mcr = val & 0x1f;
	changed = before ^ uart_modem(u);
	u->msr_delta |= (changed & (UART_MSR_CTS | UART_MSR_DSR |
			    UART_MSR_DCD)) >> 4;
	/* Of the ring signal only the end counts. */
	if ((changed & UART_MSR_RI) != 0 && (before & UART_MSR_RI) != 0)
		u->msr_delta |= UART_MSR_RI >> 4;
}

static void
uart_write_fcr(struct uart *u, uint8_t val)
{
	/* Turning the FIFO off empties it.  Turning it on does, too, in the
	 * data sheet; here the byte that waits stays, as if it had come just
	 * after: Linux turns it on when it already takes interrupts, and what
	 * is piped to the console must not lose its beginning. */
	if ((val & UART_FCR_CLEAR_RX) != 0 || ((val & UART_FCR_ENABLE) == 0 &&
	    (u->fcr & UART_FCR_ENABLE) != 0))
		u->rx_len = 0;
	u->fcr = (val & UART_FCR_ENABLE) != 0 ? val & 0xc1 : 0;
}

/* => true: val leaves on the line */
static bool
uart_write_locked(struct uart *u, unsigned reg, uint8_t val)
{
	switch (reg) {
	case UART_DATA:
		if ((u->lcr & UART_LCR_DLAB) != 0) {
			u->dll = val;
			return false;
		}
		u->tx_event = true;
		u->polls = 0;
		if ((u->mcr & UART_MCR_LOOP) == 0)
			return true;
		uart_push(u, val);
		return false;
	case UART_IER:
		if ((u->lcr & UART_LCR_DLAB) != 0) {
			u->dlm = val;
			return false;
		}
		/* Enabling it while the transmitter is empty reports that. */
		if ((val & ~u->ier & UART_IER_TX) != 0)
			u->tx_event = true;
		u->ier = val & 0x0f;
		return false;
	case UART_FCR:
		uart_write_fcr(u, val);
		return false;
	case UART_LCR:
		u->lcr = val;
		return false;
	case UART_MCR:
		uart_write_mcr(u, val);
		return false;
	case UART_SCR:
		u->scr = val;
		return false;
	default: /* LSR, MSR: read only */
		return false;
	}
}

void
uart_write(struct uart *u, unsigned reg, uint8_t val)
{
	bool send;

	reg &= 7;
	lock_acquire(&u->lock);
	send = uart_write_locked(u, reg, val);
	uart_update(u);
	lock_release(&u->lock);
	if (send)
		u->ops->transmit(u->arg, val);
	else if (reg == UART_IER || reg == UART_FCR || reg == UART_MCR)
		u->ops->room(u->arg);
}

size_t
uart_receive(struct uart *u, const uint8_t *buf, size_t n)
{
	size_t i = 0;

	lock_acquire(&u->lock);
	/* A driver that has come to stay: one that only feels what is here
	 * sets all of IER, without the gate of the interrupt line, and drops
	 * what has come. */
	if ((((u->ier & UART_IER_RX) != 0 && (u->mcr & UART_MCR_OUT2) != 0) ||
	    u->polls == UART_POLLS) && (u->mcr & UART_MCR_LOOP) == 0)
		while (i < n && u->rx_len < uart_capacity(u))
			uart_push(u, buf[i++]);
	uart_update(u);
	lock_release(&u->lock);
	return i;
}
