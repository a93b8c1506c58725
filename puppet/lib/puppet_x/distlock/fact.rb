# frozen_string_literal: true

require 'fileutils'
require 'json'
require 'socket'
require 'time'
require_relative 'command' unless defined?(PuppetX::Distlock::Command)

# The locks that this node holds, read within one second. The last answer is kept in a file, for outages of etcd.
module PuppetX::Distlock
  # The value of the fact, without Facter.
  module Fact
    BOUND = 1.0
    FIELDS = ['owner', 'since', 'token', 'lifetime', 'state', 'reason'].freeze

    def self.value
      return nil if Command.find('distlock').nil?

      held = ask
      keep(held)
      { 'stale' => false, 'locks' => held }
    rescue Refused => e
      { 'stale' => true, 'error' => e.message }.merge(kept)
    end

    def self.ask
      found = Command.ask('distlock', ['--json', '--list', "--connect-timeout=#{BOUND * 0.7}"], bound: BOUND)['locks']
      found.select { |lock| mine?(lock) }.to_h do |lock|
        slot = lock['slot'].to_i
        [slot.zero? ? lock['lock'] : "#{lock['lock']}/slot/#{slot}", lock.slice(*FIELDS)]
      end
    end

    # Held by this node's Puppet, or by another process of this host. (Puppet with another certname is another node.)
    def self.mine?(lock)
      owner = lock['owner'].to_s
      return owner == "puppet:#{certname}" if owner.start_with?('puppet:') && certname

      !lock['token'].nil? && lock['host'] == Socket.gethostname
    end

    # Nil if Facter runs without Puppet.
    def self.certname
      return unless defined?(Puppet) && Puppet.respond_to?(:[])

      Puppet[:certname]
    rescue StandardError
      nil
    end

    def self.keep(held)
      FileUtils.mkdir_p(File.dirname(file), mode: 0o755)
      fresh = "#{file}.#{Process.pid}"
      File.write(fresh, JSON.generate('asked' => Time.now.utc.iso8601, 'locks' => held), perm: 0o600)
      File.rename(fresh, file)
    rescue SystemCallError
      nil # nobody is helped by a fact that fails for this
    end

    # The last answer with its time, nil without one.
    def self.kept
      last = JSON.parse(File.read(file))
      { 'asked' => last.fetch('asked'), 'locks' => last.fetch('locks') }
    rescue SystemCallError, JSON::ParserError, KeyError, TypeError, NoMethodError
      {}
    end

    def self.file
      certname ? File.join(Puppet[:statedir], 'distlock_fact.json') : File.join(folder, 'fact.json')
    end

    def self.folder
      cache = ENV.fetch('XDG_CACHE_HOME', '')
      cache = Process.euid.zero? ? '/var/cache' : File.join(Dir.home, '.cache') if cache.empty?
      File.join(cache, 'distlock')
    end
  end
end
