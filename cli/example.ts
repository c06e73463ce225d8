import type { Command } from 'commander';

const examplesOf = new WeakMap<Command, readonly string[]>();

/** Adds examples to a command's help. One may have several lines. */
export function withExamples(command: Command, ...examples: readonly string[]): Command {
  examplesOf.set(command, examples);
  return command.addHelpText('after', () => render(examples));
}

/** Gives the help of each command that only has sub-commands the first example of each of them. */
export function addExamplesOfGroups(command: Command): void {
  if (command.commands.length === 0) return;
  for (const child of command.commands) addExamplesOfGroups(child);
  const examples = command.commands.map(firstExample).filter((example) => example !== undefined);
  command.addHelpText('after', () => render(examples));
}

/** For options that may be given several times. */
export function collect(value: string, previous: readonly string[] | undefined): readonly string[] {
  return [...(previous ?? []), value];
}

function firstExample(command: Command): string | undefined {
  const [child] = command.commands;
  return child === undefined ? examplesOf.get(command)?.[0] : firstExample(child);
}

function render(examples: readonly string[]): string {
  const lines = examples.flatMap((example) => example.split('\n')).map((line) => `  ${line}`);
  return `\nExamples:\n${lines.join('\n')}`;
}
