import { readFileSync } from 'node:fs';
import { PicketError } from '../shared/errors/errors.ts';

/** The fewest characters of a passphrase that protects a root. */
const MIN_LENGTH = 12;
const MAX_LENGTH = 1024;
const END_OF_INPUT = '\u0004';
const INTERRUPT = '\u0003';
const BACKSPACES = new Set(['\b', '\u007F']);

/**
 * A passphrase from the first line of a file, or asked for on the terminal without an echo; a new one is asked for twice. Never from the command line,
 * which others can read. Throws `invalid_argument`: `passphrase_missing`, `passphrase_short`, `passphrase_differs`.
 */
export async function readPassphrase(file: string | undefined, kind: 'new' | 'existing'): Promise<string> {
  const passphrase = file === undefined ? await ask('Passphrase of the root’s key: ') : readFirstLine(file);
  if (kind === 'existing') return passphrase;
  if (passphrase.length < MIN_LENGTH)
    throw refuse('passphrase_short', `The passphrase must have at least ${MIN_LENGTH} characters`);
  if (file === undefined && (await ask('Once more: ')) !== passphrase)
    throw refuse('passphrase_differs', 'The two passphrases differ');
  return passphrase;
}

function readFirstLine(file: string): string {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/, 1)[0] ?? '';
  } catch (cause) {
    throw new PicketError(
      'invalid_argument',
      'file_unreadable',
      `Cannot read ${file}, given with --passphrase-file`,
      { cause },
    );
  }
}

async function ask(question: string): Promise<string> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY)
    throw refuse(
      'passphrase_missing',
      'There is no terminal to ask for the passphrase: give --passphrase-file, or --root-key',
    );
  stderr.write(question);
  stdin.setRawMode(true);
  stdin.resume();
  try {
    return await readLine(stdin);
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    stderr.write('\n');
  }
}

async function readLine(stdin: NodeJS.ReadStream): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let line = '';
  const take = (chunk: Buffer): void => {
    for (const character of chunk.toString('utf8')) {
      if (character === '\r' || character === '\n' || character === END_OF_INPUT) return resolve(line);
      if (character === INTERRUPT) return reject(refuse('passphrase_missing', 'Interrupted'));
      line = BACKSPACES.has(character) ? line.slice(0, -1) : (line + character).slice(0, MAX_LENGTH);
    }
  };
  stdin.on('data', take);
  return await promise.finally(() => stdin.off('data', take));
}

function refuse(reason: string, message: string): PicketError {
  return new PicketError('invalid_argument', reason, message);
}
