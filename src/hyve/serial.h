/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A serial port of the guest on the console: the 16550A model, its ports and
 * its interrupt line.
 */
#ifndef HYVE_SERIAL_H
#define HYVE_SERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct console;
struct serial;
struct vmm;
struct vmm_exit;

int serial_create(struct vmm *vmm, struct console *console, uint16_t port,
    unsigned irq, struct serial **sp) BASE_MUST_CHECK;
void serial_destroy(struct serial *s);
bool serial_owns(const struct serial *s, uint16_t port);
/* Completes a port exit.  => vCPU threads */
void serial_io(struct serial *s, struct vmm_exit *ex);
/* Hands typed bytes to the guest as far as it takes them. => any thread */
void serial_input(struct serial *s);

#endif /* HYVE_SERIAL_H */
