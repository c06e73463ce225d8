import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** The compiled executable under test: `PICKET_BINARY`, or `dist/picket`. Throws when it was not built. */
export function picketBinary(): string {
  const path = process.env['PICKET_BINARY'] ?? join(import.meta.dirname, '../../dist/picket');
  if (!existsSync(path)) throw new Error(`${path} is missing: build it with \`bun run build\``);
  return path;
}
