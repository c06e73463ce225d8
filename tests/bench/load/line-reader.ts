/** The lines that a program prints, one after another as they are asked for. */
export class LineReader {
  readonly #chunks: AsyncIterator<Uint8Array, undefined>;
  readonly #decoder = new TextDecoder();
  #text = '';

  constructor(stream: ReadableStream<Uint8Array>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  /** The next line for which `isMeant` holds; those before are passed over. Rejects when the program ends or `withinMs` is over. */
  async find(isMeant: (line: string) => boolean, withinMs = 20_000): Promise<string> {
    const deadline = AbortSignal.timeout(withinMs);
    for (;;) {
      const line = this.#take() ?? (await this.#more(deadline));
      if (line !== undefined && isMeant(line)) return line;
    }
  }

  #take(): string | undefined {
    const end = this.#text.indexOf('\n');
    if (end < 0) return undefined;
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return line;
  }

  async #more(deadline: AbortSignal): Promise<undefined> {
    const late = new Promise<never>((_, reject) =>
      deadline.addEventListener('abort', () =>
        reject(new Error('The line that was waited for did not come')),
      ),
    );
    const { value, done } = await Promise.race([this.#chunks.next(), late]);
    if (done === true) throw new Error('The program ended before the line that was waited for');
    this.#text += this.#decoder.decode(value, { stream: true });
  }
}
