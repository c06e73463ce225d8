/** Prints the demonstration for a reader who sees Picket for the first time: what is claimed, what is run, what came of it. */
export class Narrator {
  #step = 0;
  #failures = 0;
  readonly #isColoured: boolean;

  constructor(options: { readonly isColoured: boolean }) {
    this.#isColoured = options.isColoured;
  }

  /** How many expectations did not come true. */
  get failures(): number {
    return this.#failures;
  }

  /** A new step, with the claim that it proves. */
  step(title: string, claim: string): void {
    this.#step += 1;
    this.#print('');
    this.#print(this.#paint(1, `${this.#step}. ${title}`));
    this.#print(this.#paint(2, `   ${claim}`));
  }

  /** A command that a reader could type. */
  command(host: string, text: string): void {
    this.#print(`   ${this.#paint(36, `${host}$`)} ${text}`);
  }

  /** What a program printed, cut to `maxLines`. */
  output(text: string, maxLines = 12): void {
    const lines = text.trimEnd().split('\n');
    for (const line of lines.slice(0, maxLines)) this.#print(`     ${line}`);
    if (lines.length > maxLines) this.#print(this.#paint(2, `     … ${lines.length - maxLines} more lines`));
  }

  note(text: string): void {
    this.#print(`   ${text}`);
  }

  /** An outcome that was expected, or the demonstration fails at its end. */
  expect(isTrue: boolean, text: string): void {
    if (!isTrue) this.#failures += 1;
    this.#print(isTrue ? `   ${this.#paint(32, '✓')} ${text}` : `   ${this.#paint(31, '✗ NOT SO:')} ${text}`);
  }

  #print(line: string): void {
    process.stdout.write(`${line}\n`);
  }

  #paint(code: number, text: string): string {
    return this.#isColoured ? `\u001B[${code}m${text}\u001B[0m` : text;
  }
}
