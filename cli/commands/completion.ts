import { Argument, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { withExamples } from '../example.ts';

/** `picket completion`: a script for the shell, made from the commands themselves. */
export function registerCompletion(program: Command): void {
  withExamples(
    program
      .command('completion')
      .description('print a completion script')
      .addArgument(new Argument('<shell>', 'which shell').choices(['bash', 'zsh', 'fish']))
      .action((shell: string) => {
        process.stdout.write(script(shell, program));
      }),
    'source <(picket completion bash)',
    'picket completion fish > ~/.config/fish/completions/picket.fish',
  );
}

interface Path {
  /** `picket node address`. */
  readonly path: string;
  readonly children: readonly string[];
  /** What else can follow. */
  readonly words: readonly string[];
  /** Options with a value that is one of a few. */
  readonly choices: readonly (readonly [option: string, values: readonly string[]])[];
}

/** Every command path that the help shows, with what can follow it. Options of the commands above it are taken too. */
function paths(command: Command, prefix: string, above: readonly string[] = []): readonly Path[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).filter((child) => child.name() !== 'help');
  const words = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
  const visible = help.visibleOptions(command).filter((option) => option.long !== '--help');
  const own = visible.flatMap((option) => (option.long === undefined ? [] : [option.long]));
  const options = [...own, ...above];
  const choices = visible.flatMap(({ long, argChoices }) =>
    long === undefined || argChoices === undefined ? [] : [[long, argChoices] as const],
  );
  return [
    {
      path: prefix,
      children: commands.map((child) => child.name()),
      words: [...words, ...options, '--help'],
      choices,
    },
    ...commands.flatMap((child) => paths(child, `${prefix} ${child.name()}`, options)),
  ];
}

function script(shell: string, program: Command): string {
  const all = paths(program, 'picket');
  switch (shell) {
    case 'bash':
      return bash(all);
    case 'zsh':
      return `(( $+functions[compdef] )) || { autoload -U compinit && compinit }\nautoload -U +X bashcompinit && bashcompinit\n${bash(all)}`;
    case 'fish':
      return fish(all);
    default:
      throw new PicketError(
        'invalid_argument',
        'shell_unknown',
        `There is no completion for the shell "${shell}"`,
      );
  }
}

function bash(all: ReturnType<typeof paths>): string {
  const cases = all.map(
    ({ path, children, words }) => `    '${path}') words='${[...children, ...words].join(' ')}' ;;`,
  );
  return `_picket() {
  local path=picket words='' word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    [[ $word == -* ]] && continue
    case "$path $word" in
${all.map(({ path }) => `      '${path}') path='${path}' ;;`).join('\n')}
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  case "$path \${COMP_WORDS[COMP_CWORD - 1]}" in
${all.flatMap(bashChoices).join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _picket picket
`;
}

/** Behind an option whose value is one of a few. */
function bashChoices({ path, choices }: Path): readonly string[] {
  return choices.map(([option, values]) => `    '${path} ${option}') words='${values.join(' ')}' ;;`);
}

function fish(all: ReturnType<typeof paths>): string {
  return all
    .flatMap(({ path, children, words, choices }) => {
      const condition = fishCondition(path, children);
      const valuesOf = new Map(choices);
      return [...children, ...words].map((word) => {
        if (!word.startsWith('--')) return `complete -c picket -f -n '${condition}' -a ${word}`;
        const values = valuesOf.get(word);
        const given = values === undefined ? '' : ` -x -a '${values.join(' ')}'`;
        return `complete -c picket -n '${condition}' -l ${word.slice(2)}${given}`;
      });
    })
    .join('\n')
    .concat('\n');
}

/** Holds right behind the path, before any of its children. */
function fishCondition(path: string, children: readonly string[]): string {
  const [, ...parts] = path.split(' ');
  const seen = parts.map((part) => `__fish_seen_subcommand_from ${part}`);
  const unseen = children.length === 0 ? [] : [`not __fish_seen_subcommand_from ${children.join(' ')}`];
  return [...seen, ...unseen].join('; and ');
}
