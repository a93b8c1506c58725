# frozen_string_literal: true

Puppet::Type.type(:package).provide :distlock_pip, parent: :pip do
  desc <<~DOC
    Puppet's own provider `pip`, for a virtual environment that another resource of the same run creates: while its pip
    does not exist yet, nothing is installed in it. So the first noop run reports what would be installed.
  DOC

  has_feature :installable, :uninstallable, :upgradeable, :versionable, :version_ranges, :install_options, :targetable

  # Never the default, and lists nothing: `puppet resource package` asks the provider `pip`.
  def self.specificity
    0
  end

  def self.instances(target_command = nil)
    there?(target_command) ? super : []
  end

  def self.there?(command)
    !command.nil? && File.file?(command)
  end

  def query
    super if self.class.there?(resource[:command])
  end
end
