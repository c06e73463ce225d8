import { statSync } from 'node:fs';
import type { Log } from '../../shared/runtime/log.ts';
import { readBounded } from './read-bounded.ts';

/** A larger file is not read: nobody has a name then. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** The names in a file of the form of /etc/passwd or /etc/group, read again when the file changes. Accounts of other sources have no name here. */
export class AccountNames {
  readonly #path: string;
  readonly #log: Log;
  #names: ReadonlyMap<number, string> = new Map();
  #version = '';

  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
  }

  /** The first name that the file gives to `id`, as getpwuid(3) does. */
  find(id: number): string | undefined {
    const version = this.#readVersion();
    if (version !== this.#version) {
      this.#names = this.#read();
      this.#version = version;
    }
    return this.#names.get(id);
  }

  #readVersion(): string {
    const stat = statSync(this.#path, { throwIfNoEntry: false, bigint: true });
    return stat === undefined ? 'none' : `${stat.dev} ${stat.ino} ${stat.size} ${stat.ctimeNs}`;
  }

  #read(): ReadonlyMap<number, string> {
    try {
      return parseAccountNames(readBounded(this.#path, MAX_FILE_BYTES));
    } catch (error) {
      this.#log.warn('account_names_unreadable', { path: this.#path, error });
      return new Map();
    }
  }
}

/** Names by id from lines `name:password:id:…`. Lines that are none are passed over, as libc does. */
export function parseAccountNames(text: string): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const line of text.split('\n')) {
    const [name = '', , id = ''] = line.split(':', 3);
    if (name === '' || !/^\d{1,10}$/.test(id) || /^[#+-]/.test(name)) continue;
    const number = Number(id);
    if (!names.has(number)) names.set(number, name);
  }
  return names;
}
