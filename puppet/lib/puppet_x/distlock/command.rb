# frozen_string_literal: true

require 'json'

# Puppet's namespace for Ruby code of modules that is not a plugin.
module PuppetX; end unless defined?(PuppetX)

# Code shared by type, provider and fact.
module PuppetX::Distlock
  # An error of distlock, in one line, with its kind from the JSON: busy, timeout, unreachable, ...
  class Refused < StandardError
    attr_reader :kind

    def initialize(kind, message)
      super(message)
      @kind = kind
    end
  end

  # A program that answers several requests, so that a look and the change after it need one process.
  class Conversation
    def initialize(program, words)
      @path = Command.path_of(program)
      @pid, @requests, *@streams = Command.start([@path, *words])
    end

    # Sends a request, and returns the answer.
    #
    # @raise [Refused]
    def ask(request)
      Command.send_request(@requests, request)
      Command.answer_in(*Command.read(@pid, @streams, nil, line: true), @path)
    end

    # The program ends when it sees the end of its standard input.
    def close
      [@requests, *@streams].each(&:close)
      Command.finish(@pid, Command::PATIENCE)
    end
  end

  # Runs distlock's commands without a shell. Secrets are passed over standard input.
  module Command
    # Searched after PATH, which a service may have shortened.
    FOLDERS = ['/usr/local/bin', '/opt/distlock/bin', '/opt/puppetlabs/bin'].freeze
    STEP = 0.2 # seconds between two checks whether Puppet was told to stop
    PATIENCE = 10.0 # seconds that a command may take to end after SIGTERM
    ENVIRONMENT = { 'LC_ALL' => 'C.UTF-8', 'DISTLOCK_JSON' => nil, 'DISTLOCK_QUIET' => nil, 'DISTLOCK_VERBOSE' => nil }.freeze

    # The full path of a program (given by name or path), nil if it is not installed.
    def self.find(program)
      return (program if File.executable?(program)) if program.start_with?('/')

      folders = ENV.fetch('PATH', '').split(File::PATH_SEPARATOR).reject(&:empty?) + FOLDERS
      folders.map { |folder| File.join(folder, program) }.find { |path| File.file?(path) && File.executable?(path) }
    end

    # Runs a program, and returns the JSON object that it prints.
    #
    # @param words its arguments
    # @param request sent to its standard input, as one line of JSON
    # @param bound time limit in seconds, after which it is ended
    # @raise [Refused]
    def self.ask(program, words, request: nil, bound: nil)
      path = path_of(program)
      printed, complained = run([path, *words], request, bound)
      answer_in(printed, complained, path)
    end

    def self.path_of(program)
      find(program) || raise(Refused.new('missing', "#{program} is not installed: is `include distlock` missing?"))
    end

    # The JSON object that a program has printed.
    #
    # @raise [Refused]
    def self.answer_in(printed, complained, path)
      answer = parse(printed)
      if answer.nil?
        last = one_line(complained.lines.last || 'nothing')
        raise Refused.new('error', "#{path} gave an unreadable answer; its last line on stderr: #{last}")
      end
      error = answer['error']
      raise Refused.new(error['kind'], one_line(error['message'])) if error.is_a?(Hash)

      answer
    end

    def self.parse(printed)
      answer = harmless(JSON.parse(printed))
      answer if answer.is_a?(Hash)
    rescue JSON::ParserError
      nil
    end

    # Owners and reasons are untrusted: escapes control characters in everything that comes from etcd.
    def self.harmless(value)
      case value
      when Hash then value.to_h { |key, item| [harmless(key), harmless(item)] }
      when Array then value.map { |item| harmless(item) }
      when String then value.scrub('?').gsub(%r{[^[:print:]]|[\p{Cf}\p{Zl}\p{Zp}]}) { |character| character.dump[1..-2] }
      else value
      end
    end

    def self.one_line(text)
      text.to_s.scrub('?').gsub(%r{[[:cntrl:]]+}, ' ').strip
    end

    # The command is ended if Puppet is told to stop. It detects by itself that Puppet has been killed.
    def self.run(command, request, bound)
      pid, ours, *streams = start(command)
      send_request(ours, request)
      read(pid, streams, bound)
    ensure
      [ours, *streams].compact.each(&:close)
      finish(pid, bound.nil? ? PATIENCE : 0) unless pid.nil?
    end

    # Starts a program. Returns its pid, a pipe to its standard input, and those from its standard output and error.
    def self.start(command)
      input, ours = IO.pipe
      theirs, output = IO.pipe
      complaints, errors = IO.pipe
      pid = Process.spawn(ENVIRONMENT, [command.first, command.first], *command.drop(1),
                          in: input, out: output, err: errors)
      [pid, ours, theirs, complaints]
    ensure
      [input, output, errors].compact.each(&:close)
      [ours, theirs, complaints].compact.each(&:close) if pid.nil?
    end

    def self.send_request(pipe, request)
      pipe.puts(JSON.generate(request)) unless request.nil?
    rescue Errno::EPIPE
      nil # it has ended already, and its answer says why
    end

    # Reads both streams to the end (with `line`: until the first of them has a line), and returns their contents.
    def self.read(pid, streams, bound, line: false)
      texts = streams.to_h { |stream| [stream, +''] }
      open = streams.dup
      deadline = bound && now + bound
      stopped = nil
      until open.empty? || (line && texts[streams.first].end_with?("\n"))
        ready, = IO.select(open, nil, nil, deadline ? (deadline - now).clamp(0, STEP) : STEP)
        (ready || []).each { |stream| open.delete(stream) unless take(stream, texts[stream]) }
        if stopped.nil? && stop_requested?
          stopped = now
          signal(pid, 'TERM')
        end
        raise Refused.new('timeout', "no answer within #{bound} s") if deadline && now > deadline
        raise Refused.new('interrupted', 'Puppet was asked to stop') if stopped && now > stopped + PATIENCE
      end
      texts.values.map { |text| text.force_encoding('UTF-8') }
    end

    def self.take(stream, text)
      text << stream.read_nonblock(65_536)
    rescue IO::WaitReadable
      text
    rescue EOFError
      nil
    end

    def self.stop_requested?
      defined?(Puppet::Application) && Puppet::Application.respond_to?(:stop_requested?) && Puppet::Application.stop_requested?
    end

    # Ends the process if it has not ended yet: with SIGTERM first, if there is time.
    def self.finish(pid, patience)
      return if reaped?(pid, 0.05)

      signal(pid, 'TERM')
      return if reaped?(pid, patience)

      signal(pid, 'KILL')
      reaped?(pid, PATIENCE)
    end

    def self.reaped?(pid, seconds)
      deadline = now + seconds
      loop do
        return true unless Process.waitpid(pid, Process::WNOHANG).nil?
        return false if now > deadline

        sleep(0.005)
      end
    rescue Errno::ECHILD
      true
    end

    def self.signal(pid, name)
      Process.kill(name, pid)
    rescue Errno::ESRCH
      nil
    end

    def self.now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
