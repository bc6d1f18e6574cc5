/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RECODE_CHECK_H
#define RECODE_CHECK_H

#include "engine/soft/soft_int.h"

/* len: what soft_recode() returned. => NULL, or what is wrong */
const char *recode_check(const struct soft_insn *in,
    const struct soft_recode *rc, int len, const uint8_t *out);
/* Is what soft_decode() made consistent in itself? => NULL, or what is not */
const char *recode_check_insn(const struct soft_insn *in);

#endif /* RECODE_CHECK_H */
