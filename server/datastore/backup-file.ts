import { createReadStream } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';

/** The longest line of a backup in characters: far more than the longest row, a policy, and a bound for a file that is no backup. */
const MAX_LINE_CHARACTERS = 256 * 1024 * 1024;

/**
 * The lines of a backup file, without their newlines, read as they are asked for: nothing is read, and nothing lost, before that. Throws
 * `invalid_argument`: `backup_unreadable`, `backup_invalid` for a line beyond the bound.
 */
export async function* readBackupLines(
  path: string,
  maxCharacters = MAX_LINE_CHARACTERS,
): AsyncGenerator<string, void, void> {
  let parts: string[] = [];
  let length = 0;
  for await (const chunk of readText(path)) {
    const lines = chunk.split('\n');
    const last = lines.pop() ?? '';
    for (const line of lines) {
      yield parts.join('') + line;
      parts = [];
      length = 0;
    }
    parts.push(last);
    length += last.length;
    if (length > maxCharacters)
      throw new PicketError(
        'invalid_argument',
        'backup_invalid',
        `Cannot restore the backup: a line is too long`,
      );
  }
  if (length > 0) yield parts.join('');
}

async function* readText(path: string): AsyncGenerator<string, void, void> {
  try {
    for await (const chunk of createReadStream(path, { encoding: 'utf8' })) yield String(chunk);
  } catch (cause) {
    throw new PicketError('invalid_argument', 'backup_unreadable', `Cannot read the backup ${path}`, {
      cause,
    });
  }
}
