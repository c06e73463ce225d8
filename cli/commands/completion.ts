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
}

/** Every command path with what can follow it. Options of the commands above it are taken too. */
function paths(command: Command, prefix: string, above: readonly string[] = []): readonly Path[] {
  const children = command.commands.map((child) => child.name());
  const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
  const own = command.options.flatMap((option) => (option.long === undefined ? [] : [option.long]));
  const options = [...own, ...above];
  return [
    { path: prefix, children, words: [...choices, ...options, '--help'] },
    ...command.commands.flatMap((child) => paths(child, `${prefix} ${child.name()}`, options)),
  ];
}

function script(shell: string, program: Command): string {
  const all = paths(program, 'picket');
  switch (shell) {
    case 'bash':
      return bash(all);
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bash(all)}`;
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
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _picket picket
`;
}

function fish(all: ReturnType<typeof paths>): string {
  return all
    .flatMap(({ path, children, words }) => {
      const condition = fishCondition(path, children);
      return [...children, ...words].map((word) =>
        word.startsWith('--')
          ? `complete -c picket -n '${condition}' -l ${word.slice(2)}`
          : `complete -c picket -f -n '${condition}' -a ${word}`,
      );
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
