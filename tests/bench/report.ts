import { cpus, release, totalmem } from 'node:os';
import type { Row, Table } from './measure.ts';

/** On what it was measured. */
export interface MachineShape {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
}

/** The machine that this runs on. */
export function describeMachine(): MachineShape {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 1024 ** 3),
    kernel: release(),
  };
}

/** A whole run. */
export interface Report {
  /** ISO 8601. */
  readonly started: string;
  readonly command: string;
  readonly machine: MachineShape;
  readonly versions: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly seconds: number;
  readonly tables: readonly Table[];
}

/** The run as Markdown: on what and how, then its tables. */
export function renderReport({ started, command, machine, versions, rounds, tables }: Report): string {
  const { cpu, cores, memoryGib, kernel } = machine;
  const programs = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return [
    `Measured on ${started.slice(0, 10)} by \`${command}\` on ${cores} cores (${cpu}), ${memoryGib} GiB, Linux ${kernel}.`,
    `${programs.join(', ')}. Medians of ${rounds} interleaved rounds; in brackets the median of the rounds' ratios to the reference.`,
    '',
    ...tables.flatMap((table) => [renderTable(table), '']),
  ].join('\n');
}

/** A table as Markdown: for each measure the value of each contender and, in brackets, its ratio to the reference. */
export function renderTable(table: Table): string {
  const names = table.rows[0]?.results.map(({ contender }) => contender) ?? [];
  const hasFloor = table.rows.some(({ measure }) => (measure.bound ?? measure.floor) !== undefined);
  const header = ['', ...names, ...(hasFloor ? ['floor'] : [])];
  const lines = table.rows.map((row) => [
    `${row.measure.name}, ${row.measure.unit}`,
    ...row.results.map(({ contender, median, ratio }) => {
      const value = formatNumber(median);
      return contender === table.reference || ratio === undefined ? value : `${value} (${ratio.toFixed(2)})`;
    }),
    ...(hasFloor ? [renderFloor(row)] : []),
  ]);
  const notes = (table.notes ?? []).map((note) => `${note}.`).join(' ');
  return [
    `### ${table.title}`,
    ...(notes === '' ? [] : ['', notes]),
    '',
    ...renderGrid([header, ...lines]),
  ].join('\n');
}

function renderFloor({ measure, isMet }: Row): string {
  const limit = measure.bound ?? measure.floor;
  if (limit === undefined) return '';
  const text = `${measure.better === 'more' ? 'at least' : 'at most'} ${limit.toLocaleString('en-US')}`;
  return isMet === undefined ? text : `${text}: ${isMet ? 'met' : '**not met**'}`;
}

function renderGrid(grid: readonly (readonly string[])[]): readonly string[] {
  const [header = []] = grid;
  const widths = header.map((_, column) => Math.max(3, ...grid.map((line) => line[column]?.length ?? 0)));
  const render = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [render(header), rule, ...grid.slice(1).map(render)];
}

function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
