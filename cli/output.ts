/** How results reach people and programs: a table or one JSON document on standard output. */
export interface Output {
  readonly isJson: boolean;
  /** Prints `value` as JSON, or what `render` makes of it for people. */
  result<T>(value: T, render: (value: T) => string): void;
  /** A line for people on standard error; silent with --json. */
  note(line: string): void;
}

export interface Column<T> {
  readonly title: string;
  readonly of: (row: T) => string;
}

export function createOutput(
  isJson: boolean,
  streams: { readonly out: (text: string) => void; readonly err: (text: string) => void },
): Output {
  return {
    isJson,
    result(value, render) {
      streams.out(isJson ? `${JSON.stringify(value, null, 2)}\n` : `${render(value).trimEnd()}\n`);
    },
    note(line) {
      if (!isJson) streams.err(`${line}\n`);
    },
  };
}

/** Rows under titles, padded with spaces; `empty` where there are none. Control characters in values are made visible. */
export function table<T>(rows: readonly T[], columns: readonly Column<T>[], empty: string): string {
  if (rows.length === 0) return empty;
  const cells = rows.map((row) => columns.map((column) => printable(column.of(row))));
  const widths = columns.map((column, i) =>
    Math.max(column.title.length, ...cells.map((row) => (row[i] ?? '').length)),
  );
  const line = (values: readonly string[]): string =>
    values
      .map((value, i) => value.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(columns.map((column) => column.title.toUpperCase())), ...cells.map(line)].join('\n');
}

/** Names and values, one a line. */
export function fields(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${`${name}:`.padEnd(width + 2)}${printable(value)}`).join('\n');
}

const UNITS_OF_TIME = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
] as const;

/** A duration for people, in its two largest units at most: `3 d 4 h`, `12 min`, `40 s`. */
export function formatDuration(durationMs: number): string {
  const parts: string[] = [];
  let restMs = Math.max(0, durationMs);
  for (const [unit, unitMs] of UNITS_OF_TIME) {
    const whole = Math.floor(restMs / unitMs);
    restMs -= whole * unitMs;
    if (whole > 0) parts.push(`${whole} ${unit}`);
  }
  if (durationMs < UNITS_OF_TIME[2][1]) parts.push(`${Math.floor(restMs / 1000)} s`);
  return parts.slice(0, 2).join(' ');
}

/** A number of bytes for people: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit] ?? ''}`;
}

/** A clock that is off, for people: `12 s ahead`. */
export function formatSkew(skewMs: number): string {
  return `${Math.abs(Math.round(skewMs / 1000))} s ${skewMs > 0 ? 'ahead' : 'behind'}`;
}

/** Escape sequences in names that others chose must not reach a terminal. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]/gu, (c) =>
    c === '\n' ? ' ' : `\\x${(c.codePointAt(0) ?? 0).toString(16).padStart(2, '0')}`,
  );
}
