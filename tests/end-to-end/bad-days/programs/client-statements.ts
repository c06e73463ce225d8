/** A statement that a client of PostgreSQL sends. */
export interface ClientStatement {
  readonly sql: string;
  /** The message with its parameters, as Latin-1. */
  readonly message: string;
}

const HEAD_BYTES = 5;

/** Reads what one client says to PostgreSQL: simple queries, and statements that it prepared before or now. */
export class ClientStatements {
  #rest: Buffer = Buffer.alloc(0);
  #isStarted = false;
  readonly #prepared = new Map<string, string>();

  /** The statements that are whole with these bytes, in their order. */
  take(bytes: Buffer): readonly ClientStatement[] {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    const statements: ClientStatement[] = [];
    for (let message = this.#next(); message !== undefined; message = this.#next()) {
      const sql = this.#sqlOf(message);
      if (sql !== undefined) statements.push({ sql, message: message.toString('latin1') });
    }
    return statements;
  }

  /** A message: its type, its length, its content. The first one of a connection has no type. */
  #next(): Buffer | undefined {
    const start = this.#isStarted ? 1 : 0;
    if (this.#rest.length < start + 4) return undefined;
    const length = start + this.#rest.readUInt32BE(start);
    if (this.#rest.length < length) return undefined;
    const message = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    this.#isStarted = true;
    return message;
  }

  /** Of a message that has a statement executed. */
  #sqlOf(message: Buffer): string | undefined {
    const [first = '', second = ''] = message.toString('utf8', HEAD_BYTES).split('\0', 2);
    switch (String.fromCodePoint(message[0] ?? 0)) {
      case 'Q':
        return first;
      case 'P':
        this.#prepared.set(first, second);
        return undefined;
      case 'B':
        return this.#prepared.get(second);
      default:
        return undefined;
    }
  }
}
