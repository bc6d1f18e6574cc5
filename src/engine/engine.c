/* SPDX-License-Identifier: BSD-2-Clause */
#include "engine/engine.h"

#include <string.h>

static const struct engine_ops *const engine_table[] = { &engine_soft_ops };

const struct engine_ops *
engine_lookup(const char *name)
{
	for (size_t i = 0; i < BASE_ARRAY_LEN(engine_table); i++)
		if (strcmp(engine_table[i]->name, name) == 0)
			return engine_table[i];
	return NULL;
}
