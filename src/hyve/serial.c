/* SPDX-License-Identifier: BSD-2-Clause */
#include "hyve/serial.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "devices/uart.h"
#include "hyve/console.h"
#include "vmm/vmm.h"

#define SERIAL_PORTS 8

struct serial {
	struct vmm *vmm;
	struct console *console;
	struct uart *uart;
	uint16_t port;
	unsigned irq;
	/* Input on its way: taken from the console, not yet by the guest. */
	pthread_mutex_t input_lock;
	uint8_t input[16];
	size_t ninput;
};

static void
serial_irq(void *arg, int level)
{
	struct serial *s = arg;

	if (level)
		(void)vmm_irq_assert(s->vmm, s->irq);
	else
		(void)vmm_irq_deassert(s->vmm, s->irq);
}

static void
serial_transmit(void *arg, uint8_t byte)
{
	struct serial *s = arg;

	console_put(s->console, &byte, 1);
}

static void
serial_room(void *arg)
{
	serial_input(arg);
}

static const struct uart_ops serial_uart_ops = {
	.irq = serial_irq,
	.transmit = serial_transmit,
	.room = serial_room,
};

int
serial_create(struct vmm *vmm, struct console *console, uint16_t port,
    unsigned irq, struct serial **sp)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->uart = uart_create(&serial_uart_ops, s);
	if (s->uart == NULL) {
		free(s);
		return -ENOMEM;
	}
	s->vmm = vmm;
	s->console = console;
	s->port = port;
	s->irq = irq;
	pthread_mutex_init(&s->input_lock, NULL);
	*sp = s;
	return 0;
}

void
serial_destroy(struct serial *s)
{
	uart_destroy(s->uart);
	pthread_mutex_destroy(&s->input_lock);
	free(s);
}

bool
serial_owns(const struct serial *s, uint16_t port)
{
	return port >= s->port && port - s->port < SERIAL_PORTS;
}

/* Wider accesses are as many bytes on the bus, in order; those beyond the
 * last register hit nothing. */
void
serial_io(struct serial *s, struct vmm_exit *ex)
{
	unsigned reg = ex->u.io.port - s->port;
	uint32_t data = 0, b;

	for (unsigned i = 0; i < ex->u.io.bytes; i++) {
		if (!ex->u.io.in) {
			if (reg + i < SERIAL_PORTS)
				uart_write(s->uart, reg + i,
				    (uint8_t)(ex->u.io.data >> 8 * i));
			continue;
		}
		b = reg + i < SERIAL_PORTS ? uart_read(s->uart, reg + i) :
					     0xff;
		data |= b << 8 * i;
	}
	if (ex->u.io.in)
		ex->u.io.data = data;
}

void
serial_input(struct serial *s)
{
	size_t n;

	pthread_mutex_lock(&s->input_lock);
	do {
		s->ninput += console_take(s->console, s->input + s->ninput,
		    sizeof(s->input) - s->ninput);
		n = uart_receive(s->uart, s->input, s->ninput);
		s->ninput -= n;
		memmove(s->input, s->input + n, s->ninput);
	} while (n != 0);
	pthread_mutex_unlock(&s->input_lock);
}
