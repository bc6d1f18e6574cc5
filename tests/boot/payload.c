/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel of a few hundred lines that says on the serial port what its
 * loader told it, and then does what its command line asks for:
 *	halt | triple | reset-cf9 | reset-kbd | exit=N | spin
 */
#include <stddef.h>
#include <stdint.h>

extern uint32_t payload_eflags, payload_cr0, payload_cr4;
extern uint16_t payload_sel[2];
void payload_main(uint32_t magic, uint32_t info);
_Noreturn void payload_triple(void);

static void
out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static uint8_t
in8(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static void
put_char(char c)
{
	for (int i = 0; i < 1000000 && (in8(0x3fd) & 0x20) == 0; i++)
		;
	out8(0x3f8, (uint8_t)c);
}

static void
put_string(const char *s)
{
	for (; *s != '\0'; s++)
		put_char(*s);
}

static void
put_hex(uint64_t v)
{
	char buf[17];
	int i = 16;

	buf[16] = '\0';
	do
		buf[--i] = "0123456789abcdef"[v & 15];
	while ((v >>= 4) != 0);
	put_string(buf + i);
}

static void
put_pair(const char *name, uint64_t v)
{
	put_string(name);
	put_char('=');
	put_hex(v);
	put_char(' ');
}

/* Bytes of a module, so that the test sees that it is the right one. */
static void
put_module(uint32_t start, uint32_t len, const char *args)
{
	const uint8_t *b = (const uint8_t *)start;
	uint32_t sum = 0;

	for (uint32_t i = 0; i < len; i++)
		sum = sum * 31 + b[i];
	put_pair("module len", len);
	put_pair("sum", sum);
	put_string("args \"");
	put_string(args == NULL ? "" : args);
	put_string("\"\n");
}

static void
put_range(uint64_t start, uint64_t len, uint32_t type)
{
	put_pair("memory", start);
	put_pair("len", len);
	put_pair("type", type);
	put_char('\n');
}

struct multiboot_module {
	uint32_t start, end, string, reserved;
};

struct multiboot_range {
	uint32_t size;
	uint64_t start, len;
	uint32_t type;
} __attribute__((packed));

static const char *
show_multiboot(const uint32_t *info)
{
	put_string("multiboot: ");
	put_pair("flags", info[0]);
	put_pair("lower", info[1]);
	put_pair("upper", info[2]);
	put_char('\n');
	if ((info[0] & 8) != 0)
		for (uint32_t i = 0; i < info[5]; i++) {
			const struct multiboot_module *m =
			    (const struct multiboot_module *)info[6] + i;

			put_module(m->start, m->end - m->start,
			    (const char *)m->string);
		}
	for (uint32_t at = 0; at < info[11];) {
		const struct multiboot_range *r =
		    (const struct multiboot_range *)(info[12] + at);

		put_range(r->start, r->len, r->type);
		at += r->size + 4;
	}
	return (const char *)info[4];
}

struct pvh_info {
	uint32_t magic, version, flags, nmodule;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t nmap, reserved;
};

struct pvh_module {
	uint64_t start, len, args, reserved;
};

struct pvh_range {
	uint64_t start, len;
	uint32_t type, reserved;
};

static const char *
show_pvh(const struct pvh_info *info)
{
	put_string("pvh: ");
	put_pair("version", info->version);
	put_pair("rsdp", info->rsdp);
	if (info->rsdp != 0) {
		const char *sig = (const char *)(uint32_t)info->rsdp;

		for (int i = 0; i < 8; i++)
			put_char(sig[i]);
	}
	put_char('\n');
	for (uint32_t i = 0; i < info->nmodule; i++) {
		const struct pvh_module *m =
		    (const struct pvh_module *)(uint32_t)info->modules + i;

		put_module((uint32_t)m->start, (uint32_t)m->len,
		    (const char *)(uint32_t)m->args);
	}
	for (uint32_t i = 0; i < info->nmap; i++) {
		const struct pvh_range *r =
		    (const struct pvh_range *)(uint32_t)info->map + i;

		put_range(r->start, r->len, r->type);
	}
	return (const char *)(uint32_t)info->cmdline;
}

/* => what follows the last space of s if it begins with word */
static const char *
last_word(const char *s, const char *word)
{
	const char *last = s;

	for (; *s != '\0'; s++)
		if (*s == ' ')
			last = s + 1;
	for (; *word != '\0'; word++)
		if (*last++ != *word)
			return NULL;
	return last;
}

void
payload_main(uint32_t magic, uint32_t info)
{
	const char *cmdline, *arg;

	put_pair("eflags", payload_eflags & 0x20200);
	put_pair("cr0", payload_cr0);
	put_pair("cr4", payload_cr4);
	put_pair("cs", payload_sel[0]);
	put_pair("ds", payload_sel[1]);
	put_char('\n');
	if (magic == 0x2badb002)
		cmdline = show_multiboot((const uint32_t *)info);
	else if (((const struct pvh_info *)info)->magic == 0x336ec578)
		cmdline = show_pvh((const struct pvh_info *)info);
	else {
		put_string("unknown protocol\n");
		return;
	}
	put_string("command line \"");
	put_string(cmdline);
	put_string("\"\n");

	if (last_word(cmdline, "triple") != NULL)
		payload_triple();
	if (last_word(cmdline, "reset-cf9") != NULL)
		out8(0xcf9, 0x06);
	if (last_word(cmdline, "reset-kbd") != NULL)
		out8(0x64, 0xfe);
	arg = last_word(cmdline, "exit=");
	if (arg != NULL)
		out8(0xf4, (uint8_t)((arg[0] - '0') * 10 + arg[1] - '0'));
	while (last_word(cmdline, "spin") != NULL)
		;
}
