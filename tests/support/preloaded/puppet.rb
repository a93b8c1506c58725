# frozen_string_literal: true

# `puppet`, imported with what it reads in the course of a run: server.py says how it is asked, and what a child is.
#
# A child has the command line of its request too, since distlock-puppet reads it.
#
# Nothing of the module is loaded here: each run does that itself.

require 'fiddle'
require 'json'
require 'open3'
require 'socket'

require 'facter'
require 'hocon'
require 'puppet/util/command_line'
require 'puppet'
require 'puppet/application/apply'
require 'puppet/configurer'
require 'puppet/face'
require 'puppet/parser'
require 'puppet/pops'
require 'puppet/util/feature'
require 'puppet/util/package'
require 'rubygems/commands/list_command'

# Every run loads these types, with all their providers, which ask for facts. Each comes from Puppet itself: of a type that
# is loaded, a run still looks for a provider that it names, such as the module's, in the modules of its environment.
%i[component exec file filebucket group notify package schedule service stage user whit].each do |name|
  Puppet::Type.type(name)
end
%w[kernel os.name os.family os.release networking.fqdn networking.ip networking.ip6].each { |name| Facter.value(name) }

# From outside, this process in its child: its streams, its folder, its environment and its command line.
module Become
  PR_SET_NAME = 15
  # Where the kernel has the command line that this process was started with: the second word is there to make room.
  FIRST, LAST = File.read('/proc/self/stat').rpartition(')').last.split.values_at(45, 46).map(&:to_i)

  def self.requested(request, streams)
    Process.setsid if request['session']
    [$stdin, $stdout, $stderr].zip(streams) { |own, stream| own.reopen(stream) }
    streams.each(&:close)
    ENV.replace(request['env'])
    Dir.chdir(request['cwd'])
    script = ENV['PATH'].split(':').map { |folder| File.join(folder, 'puppet') }.find { |path| File.executable?(path) }
    ARGV.replace(request['args'].drop(1))
    name(['/usr/bin/ruby', script, *ARGV])
  end

  def self.name(words)
    line = "#{words.join("\0")}\0"
    raise "no room for #{line.bytesize} bytes" if line.bytesize > LAST - FIRST

    Fiddle::Pointer.new(FIRST)[0, LAST - FIRST] = line.ljust(LAST - FIRST, "\0")
    long = -Fiddle::TYPE_LONG
    prctl = Fiddle::Function.new(Fiddle::Handle::DEFAULT['prctl'], [Fiddle::TYPE_INT, *([long] * 4)], Fiddle::TYPE_INT)
    prctl.call(PR_SET_NAME, Fiddle::Pointer["puppet\0"].to_i, 0, 0, 0)
  end
end

# A run is over within seconds. To look for garbage, it would copy every page that it shares with this process.
GC.start
GC.disable

requests = Socket.for_fd(Integer(ARGV[1]))
asked = nil
until asked
  data, _, _, *controls = requests.recvmsg(1 << 20, 0, scm_rights: true)
  exit! if data.nil? || data.empty?
  streams = controls.flat_map(&:unix_rights)
  may_run, go = IO.pipe
  told, tell = IO.pipe
  # The parent of an orphan is the next subreaper above it, which the client is until it has the answer.
  between = fork
  if between
    Process.wait(between)
    requests.sendmsg(told.readpartial(64))
    [may_run, go, told, tell, *streams].each(&:close)
    next
  end
  child = fork
  if child
    tell.syswrite(child.to_s)
    exit!
  end
  go.close
  may_run.read(1) # until it has its new parent
  [may_run, told, tell, requests].each(&:close)
  asked = JSON.parse(data)
end
Become.requested(asked, streams)
Puppet::Util::CommandLine.new('/usr/bin/puppet', ARGV).execute
