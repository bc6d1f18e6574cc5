/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A 16550A serial port: eight registers, a receive FIFO of 16 bytes, one
 * interrupt line.  Output leaves at once, so the transmitter is always empty.
 */
#ifndef DEVICES_UART_H
#define DEVICES_UART_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct uart;

struct uart_ops {
	/* The interrupt line changed. => with the port's lock held */
	void (*irq)(void *arg, int level);
	/* The guest sent a byte. => no lock held, may wait */
	void (*transmit)(void *arg, uint8_t byte);
	/* There is room for input again. => no lock held */
	void (*room)(void *arg);
};

struct uart *uart_create(const struct uart_ops *ops, void *arg); /* or NULL */
void uart_destroy(struct uart *u);
/* Registers 0 to 7, a byte each. => any thread */
uint8_t uart_read(struct uart *u, unsigned reg);
void uart_write(struct uart *u, unsigned reg, uint8_t val);
/*
 * Bytes from the line.  None are taken before the guest listens, that is, has
 * the receive interrupt on or polls the line status, so that none is lost while
 * it boots and probes the port.
 * => how many of n were taken
 */
size_t uart_receive(struct uart *u, const uint8_t *buf, size_t n);

#endif /* DEVICES_UART_H */
